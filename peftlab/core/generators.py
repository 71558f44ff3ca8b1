"""Torch's random generators: where they stand, so that the same numbers can be drawn again."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def generator_states() -> dict[str, Tensor]:
    """The states of torch's random generators that a run draws from: on CPU, and on its own card.

    A machine may have other cards when the run goes on, or give it another one of them.
    """
    import torch

    states = {"cpu": torch.get_rng_state()}
    if _is_on_card():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def have_moved(states: Mapping[str, Tensor]) -> bool:
    """Whether anything was drawn since the generators stood so."""
    import torch

    return any(not torch.equal(state, states.get(name, state[:0])) for name, state in generator_states().items())


def restore_generators(states: Mapping[str, Tensor]) -> None:
    """Set torch's random generators."""
    import torch

    torch.set_rng_state(states["cpu"])
    own = states.get("cuda", states.get("cuda.0"))  # earlier checkpoints hold one of each card
    if own is not None and _is_on_card():
        torch.cuda.set_rng_state(own)


@contextlib.contextmanager
def kept_generators() -> Iterator[None]:
    """Leave the generators where they stand, whatever is seeded and drawn as long as the context lasts.

    Torch's ``fork_rng`` looks after all cards of a machine, and warns of it, or after those that it is told.
    """
    before = generator_states()
    try:
        yield
    finally:
        restore_generators(before)


def _is_on_card() -> bool:
    """Whether the run uses a card; asking one for its state otherwise would take memory there."""
    import torch

    return bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]

"""Whether a plugin draws from the generators that it is given, or from those of the whole program."""

from __future__ import annotations

import contextlib
import random
import reprlib
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import numpy as np

from peftlab.testing.broken_contract import require

T = TypeVar("T")


def asked_twice(whose: str, ask: Callable[[], T], *, source: str) -> T:
    """What a plugin gives, where it gives the same both times and leaves the program's generators alone.

    Args:
        whose: What is asked, such as ``typos on 'a text'``.
        ask: Asks it, each time from the same start.
        source: Where it may draw from, as the end of a sentence.

    Raises:
        BrokenContractError: It draws elsewhere, or the second answer is another one.
    """
    __tracebackhide__ = True
    first = ask()  # what it imports may draw, too
    with _seeded_otherwise() as before:
        second = ask()
        after = _states()
    moved = [name for name in before if before[name] != after[name]]
    require(
        not moved,
        f"{whose}: it draws from, or seeds, the generator of the whole program ({', '.join(moved)})",
        hint=f"A run could not be repeated, and its own draws would be other ones. All chance comes from {source}.",
    )
    require(
        repr(first) == repr(second),
        f"{whose}: asked twice, it gives {reprlib.repr(first)}, and then {reprlib.repr(second)}",
        hint=f"A run could not be repeated. All chance comes from {source}, and nothing is kept from call to call.",
    )
    return second


@contextlib.contextmanager
def _seeded_otherwise() -> Iterator[Mapping[str, Any]]:
    """The generators that a whole program shares stand elsewhere; gives their states, and puts them back at the end."""
    torch = sys.modules.get("torch")
    own, numbers = random.getstate(), np.random.get_state()
    tensors = None if torch is None else torch.get_rng_state()
    try:
        random.seed(271828)
        np.random.seed(271828)
        if torch is not None:
            torch.manual_seed(271828)
        yield _states()
    finally:
        random.setstate(own)
        np.random.set_state(numbers)
        if torch is not None:
            torch.set_rng_state(tensors)


def _states() -> dict[str, Any]:
    """Where the generators stand; torch's where somebody has imported it."""
    state: dict[str, Any] = {"random": random.getstate(), "numpy.random": repr(np.random.get_state())}
    torch = sys.modules.get("torch")
    return state if torch is None else {**state, "torch": torch.get_rng_state().numpy().tobytes()}

"""Guards of the model that was saved and loaded again: it is the trained one, and its adapter does something."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from peftlab.core.record import Guard
from peftlab.training.guards import first_names
from peftlab.training.sharding import whole


def check_reload(
    *, before: Tensor, after: Tensor, saved: Mapping[str, str], loaded: Mapping[str, str], tolerance: float
) -> Guard:
    """The loaded model holds, bit for bit, what was trained, and gives the same logits.

    Args:
        before: Logits of the trained model on a probe batch.
        after: Logits of the model loaded from the run's folder on the same batch.
        saved: Fingerprint of each tensor that had to be saved, by its name in the file.
        loaded: The same of what the loaded model holds.
        tolerance: Greatest difference of logits, relative to the largest logit where that is above 1.
    """
    names = sorted(saved.keys() | loaded.keys())
    different = [name for name in names if saved.get(name) != loaded.get(name)]
    if different:
        return Guard.check(
            False, f"{len(different)} of {len(names)} tensors are not what was trained: {first_names(different)}"
        )
    if before.shape != after.shape:
        return Guard.check(False, f"logits of shape {tuple(after.shape)} came back for {tuple(before.shape)}")
    difference, allowed = _difference(before, after), tolerance * _scale(before)
    return Guard.check(
        difference <= allowed,
        f"all {len(names)} tensors came back bit for bit; the greatest difference of a reloaded logit is "
        f"{difference:.1e} (allowed {allowed:.1e}: {tolerance:.0e}, times the largest logit where that is above 1)",
    )


NO_EFFECT = 1e-6
"""A difference of logits, relative to the largest where that is above 1, that float32's rounding alone makes."""


def check_effect(base: Tensor, reloaded: Tensor) -> Guard:
    """The reloaded adapter changes what the model says.

    Args:
        base: Logits of the base with the trained head and no adapter, on the probe batch.
        reloaded: Logits of the reloaded model on it.
    """
    if base.shape != reloaded.shape:
        return Guard.check(True, "the adapter changes the shape of the logits")
    difference = _difference(base, reloaded)
    return Guard.check(
        difference > NO_EFFECT * _scale(base),
        f"the reloaded adapter moves the logits of the base by up to {difference:.1e}",
    )


def _difference(one: Tensor, other: Tensor) -> float:
    return float((one.float() - other.float()).abs().max())


def _scale(logits: Tensor) -> float:
    return max(1.0, float(logits.float().abs().max()))


def trained_heads(model: nn.Module, heads: tuple[str, ...]) -> dict[str, Tensor]:
    """The trained parameters of the heads, on CPU, by their names in the base."""
    found = {}
    for name, parameter in model.named_parameters():
        for head in heads if parameter.requires_grad else ():
            _, inside, rest = f".{name}".partition(f".{head}.")
            if inside:
                found[f"{head}.{rest.removeprefix('modules_to_save.default.')}"] = whole(parameter.detach()).cpu()
    return found


def trains_only_heads(model: nn.Module, heads: tuple[str, ...]) -> bool:
    """Whether nothing but the heads trains."""
    trained = sum(parameter.requires_grad for parameter in model.parameters())
    return trained == len(trained_heads(model, heads))


@contextlib.contextmanager
def lent_heads(base: nn.Module, heads: Mapping[str, Tensor]) -> Iterator[None]:
    """The base with these heads, as long as the context lasts."""
    with torch.no_grad():
        own = {name: base.get_parameter(name).detach().clone() for name in heads}
        for name, tensor in heads.items():
            base.get_parameter(name).copy_(tensor)
        try:
            yield
        finally:
            for name, tensor in own.items():
                base.get_parameter(name).copy_(tensor)

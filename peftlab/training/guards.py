"""Guards: checks that a run did what it says. Each has caught a failure that other tools let pass in silence."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from peftlab.core.added_rows import ADDED_ROWS
from peftlab.core.method import Method
from peftlab.core.record import Guard
from peftlab.core.tensors import held_part
from peftlab.training.fingerprints import fingerprint, frozen_state, grown_tables
from peftlab.training.sharding import is_sharded, whole
from peftlab.training.world import World

FIRST_STEPS = 10
"""Steps within which every trainable parameter must have received a gradient. LoRA's A, for one, has none in the first
step, since B starts at zero."""

FEWEST_STEPS = 3
"""Fewer steps say nothing of a tensor that has not moved."""


def check_trainable_parameters(
    model: nn.Module, method: Method, *, base_names: Mapping[int, str], head_modules: tuple[str, ...]
) -> Guard:
    """Of the base's own parameters, only those train that the method names, and the head does; all in float32.

    Args:
        model: Wrapped by the method.
        method: Tells by name what it means to train.
        base_names: ``id`` of each parameter of the base before it was wrapped, and its name.
        head_modules: Names of the modules that always train.
    """
    unexpected, missing, rounded, trainable = [], [], [], 0
    for name, parameter in model.named_parameters():
        trainable += parameter.requires_grad
        if parameter.requires_grad and parameter.dtype in (torch.bfloat16, torch.float16):
            rounded.append(name)
        base_name = base_names.get(id(parameter))
        if base_name is None:
            continue
        in_head = any(base_name == head or base_name.startswith(f"{head}.") for head in head_modules)
        if parameter.requires_grad and not (in_head or method.trains(base_name)):
            unexpected.append(name)
        # peft trains a copy of the head and leaves the original frozen beside it.
        if not parameter.requires_grad and method.trains(base_name) and not in_head:
            missing.append(name)
    if unexpected:
        return Guard.check(False, f"parameters of the base train that should not: {first_names(unexpected)}")
    if missing:
        return Guard.check(False, f"parameters of the base do not train that should: {first_names(missing)}")
    if rounded:
        return Guard.check(False, f"half precision rounds small updates away, and there train: {first_names(rounded)}")
    untrained = [head for head in head_modules if not _head_trains(model, head)]
    if untrained:
        return Guard.check(False, f"the head does not train: {first_names(untrained)}")
    return Guard.check(trainable > 0, f"{trainable} tensors train, each of them meant to")


def _head_trains(model: nn.Module, head: str) -> bool:
    """Whether a parameter of the module trains, or of the copy that a method put in its place."""
    return any(parameter.requires_grad and (f".{head}." in f".{name}") for name, parameter in model.named_parameters())


class GradientGuard:
    """Watches the first steps: every trainable parameter gets a finite, non-zero gradient, no frozen one any."""

    def __init__(self, model: nn.Module) -> None:
        trainable = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
        # An added token may be rare; that its row moved in the whole run, `adapter_changed` tells.
        self._waiting = {name for name in trainable if f".{ADDED_ROWS}." not in name}
        self._count = len(self._waiting)
        self._not_finite: set[str] = set()
        self._frozen: set[str] = set()
        self._steps = 0

    @property
    def is_watching(self) -> bool:
        """Whether there is still something to see."""
        return self._steps < FIRST_STEPS and (bool(self._waiting) or self._steps == 0)

    def observe(self, model: nn.Module, world: World | None = None, *, may_teach_nothing: bool = False) -> None:
        """Look at the gradients of a step, before they are cleared; at those that are in parts with all processes.

        Args:
            model: Whose gradients.
            world: The processes that have this model.
            may_teach_nothing: Whether a step without any gradient says nothing of the model, and is not counted: such
                as one of reinforcement whose rewards are all equal.
        """
        watched: dict[str, Tensor] = {}
        for name, parameter in model.named_parameters():
            if parameter.grad is not None and not parameter.requires_grad:
                self._frozen.add(name)
            elif parameter.grad is not None and (may_teach_nothing or name in self._waiting):
                watched[name] = held_part(parameter.grad.detach())
        found = _largest_elements(watched)
        if world is not None and is_sharded(model):
            each = world.gather(found)
            found = {name: _largest([one[name] for one in each]) for name in found}
        if may_teach_nothing and not any(found.values()):
            return
        self._steps += 1
        for name in found.keys() & self._waiting:
            if not math.isfinite(found[name]):
                self._not_finite.add(name)
            elif found[name] > 0:
                self._waiting.discard(name)
                self._not_finite.discard(name)

    def state_dict(self) -> dict[str, Any]:
        """Plain values, for a checkpoint."""
        return {
            "waiting": sorted(self._waiting),
            "not_finite": sorted(self._not_finite),
            "frozen": sorted(self._frozen),
            "steps": self._steps,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up what ``state_dict`` gave."""
        self._waiting, self._steps = set(state["waiting"]), state["steps"]
        self._not_finite, self._frozen = set(state["not_finite"]), set(state["frozen"])

    def result(self) -> Guard:
        """The outcome."""
        if self._frozen:
            return Guard.check(False, f"frozen parameters got gradients: {first_names(sorted(self._frozen))}")
        if self._not_finite:
            return Guard.check(False, f"gradients that are not finite: {first_names(sorted(self._not_finite))}")
        if self._waiting and self._steps < FEWEST_STEPS:
            return Guard.not_applicable(f"{self._steps} steps are too few to tell (a LoRA's A learns from the second)")
        seen = self._count - len(self._waiting)
        if self._waiting:
            return Guard.check(
                False,
                f"{len(self._waiting)} of {self._count} trainable tensors got no gradient within {self._steps} steps: "
                f"{first_names(sorted(self._waiting))}",
            )
        return Guard.check(True, f"all {seen} trainable tensors got a finite, non-zero gradient; no frozen one did")


def _largest(numbers: Sequence[float]) -> float:
    """The largest of some numbers; NaN where one is."""
    return max(numbers, key=lambda number: (math.isnan(number), number))


def _largest_elements(tensors: Mapping[str, Tensor]) -> dict[str, float]:
    """The largest magnitude in each of some tensors, NaN included; the device is waited for once."""
    if not tensors:
        return {}
    # It tells all that is asked, and needs no second tensor of a gradient's size.
    largest = [
        torch.linalg.vector_norm(tensor, ord=math.inf).float() if tensor.numel() else tensor.new_zeros(())
        for tensor in tensors.values()
    ]
    return dict(zip(tensors, torch.stack(largest).tolist(), strict=True))


def hash_tensors(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """SHA-256 of each tensor's bytes, shape and type."""
    hashes = {}
    for name, tensor in tensors.items():
        tensor = whole(tensor.detach())
        digest = hashlib.sha256(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
        hashes[name] = digest.hexdigest()
    return hashes


def combined_hash(hashes: Mapping[str, str]) -> str:
    """One SHA-256 over named hashes."""
    return hashlib.sha256("\n".join(f"{name} {value}" for name, value in sorted(hashes.items())).encode()).hexdigest()


def check_adapter_changed(
    before: Mapping[str, str], after: Mapping[str, str], *, steps: int, may_end_unchanged: Collection[str]
) -> Guard:
    """Every trainable tensor ended elsewhere than it began, the head's included.

    Args:
        before: Hash of each at the start.
        after: Hash of each at the end.
        steps: Of training.
        may_end_unchanged: Those that a hook has put back to where they began.
    """
    unchanged = sorted(name for name, value in before.items() if after.get(name) == value)
    same = [name for name in unchanged if name not in may_end_unchanged]
    changed = len(before) - len(unchanged)
    if same and steps < FEWEST_STEPS:
        return Guard.not_applicable(f"{steps} steps are too few to tell (a LoRA's A learns from the second)")
    if same:
        return Guard.check(False, f"{len(same)} of {len(before)} trainable tensors never changed: {first_names(same)}")
    if unchanged:
        rest = f"a hook put {len(unchanged)} others back to where they began"
        return Guard.check(changed > 0, f"{changed} trainable tensors changed, the head's included; {rest}")
    return Guard.check(changed > 0, f"all {changed} trainable tensors changed, the head's included")


class BaseGuard:
    """The frozen parameters and the buffers are bit for bit, and place for place, what they were before training."""

    def __init__(self, model: nn.Module) -> None:
        self._before = _fingerprints(model)

    def digest(self) -> str:
        """One SHA-256 over all that is frozen."""
        return combined_hash({name: value for name, (_, value) in self._before.items()})

    def result(self, model: nn.Module) -> Guard:
        """Compare with the model after training."""
        if not self._before:
            return Guard.not_applicable("nothing is frozen")
        now, tables = _fingerprints(model), grown_tables(model)
        different = []
        for name, (shape, before) in sorted(self._before.items()):
            shape_now, after = now.get(name, ((), ""))
            if after != before and not (name in tables and shape_now != shape):
                different.append(name)
        if different:
            return Guard.check(False, f"frozen tensors changed: {first_names(different)}")
        return Guard.check(True, f"all {len(self._before)} frozen tensors are bit-identical, buffers included")


def _fingerprints(model: nn.Module) -> dict[str, tuple[tuple[int, ...], str]]:
    return {name: (tuple(tensor.shape), fingerprint(tensor)) for name, tensor in frozen_state(model)}


def first_failed(guards: Sequence[Guard]) -> Guard:
    """Of the same guard in all processes the first that has failed, or else the first."""
    return next((guard for guard in guards if guard.status == "failed"), guards[0])


def waive(guards: Mapping[str, Guard], names: list[str]) -> dict[str, Guard]:
    """Mark the guards that the recipe waives."""
    return {
        name: guard.model_copy(update={"waived": True}) if name in names and guard.status == "failed" else guard
        for name, guard in guards.items()
    }


def first_names(names: list[str]) -> str:
    """The first of some names, and how many more there are."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")

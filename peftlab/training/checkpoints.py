"""Checkpoints: everything that a run needs to go on as if it had never stopped. Safetensors and JSON only.

A step's checkpoint is a folder that appears whole under its name; the one before it is deleted afterwards. Beside it,
``best`` holds the trainable parameters with the best validation score so far.
"""

from __future__ import annotations

import json
import shutil
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from peftlab.core.errors import UnsupportedError, UserError
from peftlab.core.files import atomic_folder, delete_folder, put_back, unfinished_in
from peftlab.training.sharding import part_like

BEST = "best"
PARTS = ("parameters", "hooks", "optimizer", "generators")
"""The files of a checkpoint that hold tensors."""
FORMAT = 3
"""Raised when earlier checkpoints cannot be gone on from. 2: other groups of the optimizer and batches; 3: hooks."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint in memory.

    Args:
        parameters: The trainable parameters by name.
        hooks: What the method and the regularisers want to find again: ``<name>/<key>``.
        state: Plain values: the step, the best score, the meters' sums.
        optimizer: The optimizer's state, flattened; empty in ``best``.
        generators: States of torch's random generators; empty in ``best``.
    """

    parameters: Mapping[str, Tensor]
    hooks: Mapping[str, Tensor]
    state: Mapping[str, Any]
    optimizer: Mapping[str, Tensor]
    generators: Mapping[str, Tensor]


class CheckpointFolder:
    """The ``checkpoints/`` folder of a run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, name: str, checkpoint: Checkpoint) -> None:
        """Write a checkpoint under a name, whole or not at all."""
        with atomic_folder(self.folder / name) as partial:
            for part in PARTS:
                tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in getattr(checkpoint, part).items()}
                save_file(tensors, partial / f"{part}.safetensors")
            (partial / "state.json").write_text(json.dumps({"format": FORMAT, **checkpoint.state}), encoding="utf-8")

    def write_step(self, step: int, checkpoint: Checkpoint) -> None:
        """Write the checkpoint of a step, and then delete the older ones."""
        self.write(f"step-{step:08d}", checkpoint)
        self._delete_older()

    def read(self, name: str) -> Checkpoint:
        """Read a checkpoint.

        Raises:
            UserError: It is damaged, or of another version of peftlab.
        """
        folder = self.folder / name
        put_back(folder)
        try:
            state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
            is_ours = state.get("format") == FORMAT
            parts = {part: load_file(folder / f"{part}.safetensors") for part in PARTS} if is_ours else {}
        except Exception as error:  # noqa: BLE001 - safetensors raises its own class without a public base
            raise UserError(
                f"the checkpoint cannot be read: {error}", where=str(folder), hint="Delete it to resume from before."
            ) from None
        if not is_ours:
            raise UserError(
                "the run cannot be resumed: another version of peftlab began it, with other checkpoints",
                where=str(folder),
                hint="Start the run in a new folder, or continue it with that version.",
            )
        return Checkpoint(**parts, state=state)

    def read_latest(self) -> Checkpoint | None:
        """The checkpoint of the latest step, or None where there is none. A kill may have left older ones: they go."""
        self._delete_older()
        steps = self._steps()
        return self.read(steps[-1].name) if steps else None

    def best(self) -> tuple[Path, int] | None:
        """Where the parameters of the best evaluation so far lie, and its step; None where there is none."""
        folder = self.folder / BEST
        try:
            state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
            return folder / f"{PARTS[0]}.safetensors", int(state["progress"]["step"])
        except (OSError, ValueError, KeyError):
            return None

    def read_best(self) -> Checkpoint | None:
        """What the run would leave so far, or None where there was no evaluation yet."""
        put_back(self.folder / BEST)
        return self.read(BEST) if (self.folder / BEST).is_dir() else None

    def latest_state(self) -> Mapping[str, Any]:
        """The plain values of the latest checkpoint; empty where there is none that can be read."""
        steps = self._steps()
        try:
            state: dict[str, Any] = json.loads((steps[-1] / "state.json").read_text(encoding="utf-8")) if steps else {}
        except (OSError, ValueError):
            return {}  # reading the whole of it says what is wrong
        return state

    def delete(self) -> None:
        """Delete all of them."""
        delete_folder(self.folder)

    def _delete_older(self) -> None:
        for leftover in unfinished_in(self.folder):
            if leftover.name.startswith(".step-"):
                shutil.rmtree(leftover)
        for older in self._steps()[:-1]:
            delete_folder(older)

    def _steps(self) -> list[Path]:
        return sorted(self.folder.glob("step-*")) if self.folder.is_dir() else []


def trainable_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that require a gradient, by name."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


@torch.no_grad()
def restore_parameters(model: nn.Module, saved: Mapping[str, Tensor]) -> None:
    """Copy saved values into the trainable parameters.

    Raises:
        UserError: The names differ.
    """
    own = trainable_parameters(model)
    if own.keys() != saved.keys():
        different = sorted(own.keys() ^ saved.keys())
        raise UserError(f"the checkpoint is of another model: {', '.join(different[:3])}")
    for name, parameter in own.items():
        parameter.copy_(part_like(parameter, saved[name]))


def flatten_optimizer(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """An optimizer's state as named tensors: ``<parameter's number>/<key>/…``; plain numbers become float64 scalars.

    bitsandbytes nests the quantised part of a parameter's state in a dict of its own. pytorch-optimizer keeps lists of
    tensors, and counts steps in the parameter groups: ``group.<number>/<key>``.

    Raises:
        UnsupportedError: It keeps something else than tensors and plain values.
    """
    flat: dict[str, Tensor] = {}

    def walk(value: Any, path: str) -> None:
        if isinstance(value, dict):
            for key, item in value.items():
                walk(item, f"{path}/{key}")
        elif isinstance(value, list | tuple | deque):
            kind = _SEQUENCES[type(value)]
            flat[f"{path}/{kind}"] = torch.tensor(_most(value), dtype=torch.int64)
            for at, item in enumerate(value):
                walk(item, f"{path}/{at}")
        elif isinstance(value, Tensor):
            flat[path] = value.clone()  # the quantisation map is one tensor in many states; files want separate ones
        elif value is None or isinstance(value, str):
            flat[path + _TEXT] = torch.tensor(list(json.dumps(value).encode()), dtype=torch.uint8)
        elif isinstance(value, int | float):
            flat[path + _NUMBER] = torch.tensor(float(value), dtype=torch.float64)
        else:
            raise UnsupportedError(
                f"the optimizer keeps a {type(value).__name__} for each parameter, which no checkpoint can hold",
                where="training.optimizer",
                hint="Choose another one.",
            )

    saved = optimizer.state_dict()
    for number, entries in saved["state"].items():
        walk(entries, str(number))
    for place, group in enumerate(saved["param_groups"]):
        for key, value in group.items():
            if key not in _OF_THE_RECIPE and isinstance(value, int | float | Tensor):
                walk(value, f"{_GROUP}{place}/{key}")
    return flat


_NUMBER = "#number"
_TEXT = "#text"
_GROUP = "group."
_SEQUENCES: dict[type, str] = {list: "#list", tuple: "#tuple", deque: "#deque"}
_OF_THE_RECIPE = frozenset({"lr", "params"})
"""What is set before each step."""


def _most(value: Any) -> int:
    """The most items that a sequence can hold; -1: as many as there are."""
    most = getattr(value, "maxlen", None)
    return -1 if most is None else int(most)


def restore_optimizer(optimizer: torch.optim.Optimizer, flat: Mapping[str, Tensor]) -> None:
    """Take up a state that :func:`flatten_optimizer` gave."""
    state: dict[str, dict[str, Any]] = {}
    for name, value in flat.items():
        number, *path, key = name.split("/")
        entry = state.setdefault(number, {})
        for part in path:
            entry = entry.setdefault(part, {})
        if key.endswith(_NUMBER):
            plain = float(value)
            entry[key.removesuffix(_NUMBER)] = int(plain) if plain.is_integer() else plain
        elif key.endswith(_TEXT):
            entry[key.removesuffix(_TEXT)] = json.loads(bytes(value.tolist()).decode())
        else:
            entry[key] = value
    groups = optimizer.state_dict()["param_groups"]
    for place, group in enumerate(groups):
        for key, value in state.pop(f"{_GROUP}{place}", {}).items():
            group[key] = type(group[key])(value) if isinstance(group.get(key), bool | float) else value
    trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    found: dict[int, dict[str, Any]] = {}
    for number, entry in state.items():
        like = trained[int(number)]
        whole = {key: _sequences(item) for key, item in entry.items()}
        found[int(number)] = {key: part_like(like, v) if isinstance(v, Tensor) else v for key, v in whole.items()}
    own: Any = getattr(optimizer, "optimizer", optimizer)  # under accelerate's
    if getattr(own, "is_paged", False):
        own.load_state_dict({"state": found, "param_groups": groups}, move_to_device=False)
        _page(own)
    else:
        optimizer.load_state_dict({"state": found, "param_groups": groups})


def _page(optimizer: Any) -> None:
    """Put the states of bitsandbytes' paged optimizers, which it would load into the card's own memory, into pages."""
    for parameter, entry in optimizer.state.items():
        for key, value in entry.items():
            if key in ("state1", "state2"):
                is_double = value.shape != parameter.shape  # AdEMAMix's two averages
                make = optimizer._get_state_double_buffer if is_double else optimizer.get_state_buffer
                entry[key] = make(parameter, dtype=value.dtype).copy_(value)


def _sequences(value: Any) -> Any:
    """Lists, tuples and queues that were taken apart."""
    if not isinstance(value, dict):
        return value
    for kind, mark in _SEQUENCES.items():
        if mark in value:
            most = int(value[mark])
            items = [_sequences(value[str(at)]) for at in range(len(value) - 1)]
            return deque(items, maxlen=None if most < 0 else most) if kind is deque else kind(items)
    return {key: _sequences(item) for key, item in value.items()}

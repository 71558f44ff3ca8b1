"""What a task computes with the untouched base before the method is applied; kept in the run's folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from peftlab.core.errors import RunFailedError
from peftlab.core.files import atomic_file
from peftlab.core.splits import EncodedSplit
from peftlab.core.task import Task
from peftlab.training.evaluation import TorchInference
from peftlab.training.fingerprints import fingerprints
from peftlab.training.world import World

PREPARED = "prepared.safetensors"


class TorchUntouchedBase:
    """Asks the base for values of whole splits; see :class:`peftlab.core.task.UntouchedBase`.

    Args:
        model: The base, in eval mode, where it is computed.
        task: Makes the batches.
        inference: How the model is asked.
        batches: Positions for lengths of examples.
        pad_token_id: For padding.
        after_batch: Told the number of examples of each batch.
        world: The processes that have this base.
    """

    def __init__(
        self,
        model: nn.Module,
        task: Task,
        inference: TorchInference,
        *,
        batches: Callable[[Sequence[int]], list[list[int]]],
        pad_token_id: int,
        after_batch: Callable[[int], None] = lambda _count: None,
        world: World | None = None,
    ) -> None:
        self._model, self._task, self._inference = model, task, inference
        self._batches, self._pad, self._after_batch = batches, pad_token_id, after_batch
        self._world = world or World()

    @torch.inference_mode()
    def values(self, split: EncodedSplit, function: Callable[[nn.Module, Mapping[str, Tensor]], Tensor]) -> Tensor:
        """What a function of model and batch gives for every example (examples × …), in their order, on CPU."""

        def compute(positions: Sequence[int]) -> Tensor:
            batch = self._task.collate([split.examples[at] for at in positions], self._pad)
            return self._inference.compute(function, self._model, batch).cpu()

        found: dict[int, Tensor] = {}
        batches = self._batches(self._task.lengths(split.examples))
        for positions, rows in zip(batches, self._world.map(compute, batches), strict=True):
            found.update(zip(positions, rows, strict=True))
            self._after_batch(len(positions))
        return torch.stack([found[at] for at in range(len(split))])


def prepare_splits(
    task: Task,
    splits: Mapping[str, EncodedSplit],
    base: TorchUntouchedBase,
    model: nn.Module,
    path: Path,
    identity: Any,
    world: World,
) -> dict[str, EncodedSplit]:
    """The splits, whose examples hold what the task prepares; read from the run's folder where it lies there.

    The first process has that folder: what it finds there, the others need not compute, and it is alone in writing.

    Args:
        task: Prepares.
        splits: Encoded.
        base: Asks the model.
        model: The base; its weights are compared before and after.
        path: The file.
        identity: Of data and settings, as plain JSON: values of others, of other weights or tokens, are computed anew.
        world: The processes that prepare them together.

    Raises:
        RunFailedError: The task has changed the base, or gives other rows than there are examples.
    """
    before = fingerprints(dict(model.named_parameters()))
    content = json.dumps([identity, before, _tokens_sha256(splits)], sort_keys=True, default=str)
    key = hashlib.sha256(content.encode()).hexdigest()
    found = world.first(lambda: read_prepared(path, key))
    if found is None:
        given = task.prepare(splits, base)
        if given is None:
            return dict(splits)
        if fingerprints(dict(model.named_parameters())) != before:
            raise RunFailedError(f"`prepare` of {task.registered_name} has changed the base model")
        found = {f"{split}/{name}": value for split, values in given.items() for name, value in values.items()}
        for name, value in found.items():
            count = len(splits[name.partition("/")[0]])
            if value.ndim == 0 or len(value) != count:
                raise RunFailedError(
                    f"`prepare` of {task.registered_name} gives {tuple(value.shape)} for {name}, not {count} rows"
                )
        if world.is_first:
            with atomic_file(path) as partial:
                whole = {name: value.contiguous() for name, value in found.items()}
                save_file(whole, partial, metadata={"identity": key})
    return {name: with_values(split, found) for name, split in splits.items()}


def _tokens_sha256(splits: Mapping[str, EncodedSplit]) -> str:
    """Of all examples: a chat template, or a tokenizer, makes others of the same rows."""
    found = hashlib.sha256()
    for name, split in splits.items():
        found.update(f"{name} {len(split)}\n".encode())
        for example in split.examples:
            found.update(json.dumps(example, sort_keys=True, default=str).encode())
    return found.hexdigest()


def with_values(split: EncodedSplit, found: Mapping[str, Tensor]) -> EncodedSplit:
    """The split, each example with its own rows of the tensors that are named ``<split>/<name>``."""
    own = {key.partition("/")[2]: value.tolist() for key, value in found.items() if key.startswith(f"{split.name}/")}
    examples = [
        {**example, **{name: values[row] for name, values in own.items()}} for row, example in enumerate(split.examples)
    ]
    return replace(split, examples=examples) if own else split


def read_prepared(path: Path, key: str) -> dict[str, Tensor] | None:
    """What lies in a file; None where there is nothing of this run's data, base and settings."""
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            if (file.metadata() or {}).get("identity") != key:
                return None
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - a file is no mapping
    except (SafetensorError, OSError):
        return None  # it is computed anew

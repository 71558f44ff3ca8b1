"""The models that a service holds: which of them can ride in one batch, and how a batch is computed."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from peftlab.artifact.files import check_adapter
from peftlab.artifact.hosting import (
    TensorPool,
    add_adapter,
    may_compute_at_once,
    remove_adapter,
    rides_with_others,
    use_adapter,
)
from peftlab.artifact.mixing import MixedBatch, let_adapters_mix
from peftlab.artifact.save import ADAPTER
from peftlab.core.capabilities import GeneratesText
from peftlab.core.config import replace_config
from peftlab.core.errors import UserError
from peftlab.core.record import RunRecord
from peftlab.core.splits import Example
from peftlab.core.task import Prediction
from peftlab.inference.exported import EXPORT_NAME
from peftlab.inference.generate import GenerationOptions, Written, generate
from peftlab.inference.load_tuned import check_folder, load_tuned, read_finished_run
from peftlab.inference.predict import check_answers
from peftlab.inference.tuned_model import TunedModel
from peftlab.models.base_model import load_tokenizer
from peftlab.recipe.schema import Recipe


@dataclass
class Lane:
    """Adapters whose texts can be in one batch.

    Several threads may ``compute`` batches; where the model is not fit for that, one waits for the other.

    Args:
        first: The model that was loaded first; its task makes the batches.
        is_mixed: Whether peft holds several adapters in the model.
        names: The service's name of each adapter, and peft's.
    """

    first: TunedModel
    is_mixed: bool
    names: dict[str, str] = field(default_factory=dict)
    added: int = 0

    def __post_init__(self) -> None:
        model = self.first.model
        is_safe = model is None or may_compute_at_once(model)
        self._turn: contextlib.AbstractContextManager[Any] = contextlib.nullcontext() if is_safe else threading.Lock()
        if self.is_mixed:
            assert self.first.model is not None  # noqa: S101 - an adapter is run by torch
            let_adapters_mix(self.first.model)

    def compute(self, batch: Mapping[str, Tensor], adapters: Sequence[str]) -> Tensor:
        """Logits of a batch whose examples have these adapters."""
        with self._turn:
            return self._compute(batch, adapters)

    def _compute(self, batch: Mapping[str, Tensor], adapters: Sequence[str]) -> Tensor:
        if not self.is_mixed or set(self.names.values()) == {"default"}:
            return self.first.compute_logits(batch)
        model, inference = self.first.module()
        mixed = MixedBatch(model, [self.names[name] for name in adapters]).eval()
        with torch.inference_mode():  # the model has it; this is for what the task does with its output
            return inference.compute(self.first.task.logits, mixed, batch).float().cpu()

    def use(self, adapter: str) -> None:
        """Let the model be this adapter's from now on, for batches of its own."""
        if self.is_mixed:
            use_adapter(self.first.model, self.names[adapter])


@dataclass(frozen=True)
class Hosted:
    """One tuned model in the service."""

    name: str
    tuned: TunedModel
    lane: Lane

    @property
    def generates(self) -> bool:
        """Whether it writes text, and predicts nothing."""
        return isinstance(self.tuned.task, GeneratesText)


@dataclass(frozen=True)
class Writing:
    """What is asked of a text that is to be written.

    Args:
        options: How it is written.
        show: Is given the text piece by piece, in the model's thread; None: it is wanted whole.
        abandoned: Set once nobody waits for it any more.
    """

    options: GenerationOptions
    show: Callable[[str], None] | None = None
    abandoned: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True)
class WorkItem:
    """One text on its way through the model; with ``writing``, its example is a prompt."""

    hosted: Hosted
    example: Example
    writing: Writing | None = None

    @property
    def company(self) -> Hashable:
        """Equal for those that can be in one batch: what is written must be for one adapter, and in one manner."""
        if self.writing is None:
            return id(self.hosted.lane)
        alone = None if self.writing.show is None else id(self.writing)
        return (self.hosted.name, self.writing.options, alone)

    @property
    def needs_host_alone(self) -> bool:
        """Whether nothing else may be computed meanwhile: a model that writes is switched to one adapter."""
        return self.writing is not None


class Host:
    """Holds models by name.

    Several threads may ``answer`` at once. Removing a model, adding one that ``joins`` another, and writing must not
    happen while a batch is computed.

    Args:
        offline: Allow no network.
        threads: Of the CPU for a batch that is computed beside others; None: all.
        device: Where models compute; None: CUDA where it is there.
    """

    def __init__(
        self, *, offline: bool = False, threads: int | None = None, device: torch.device | None = None
    ) -> None:
        self._all_threads = torch.get_num_threads()
        self._threads = threads or self._all_threads
        self.models: dict[str, Hosted] = {}
        self._lanes: dict[Any, Lane] = {}
        self._pool = TensorPool()
        self._offline, self._device = offline, device
        self._base: Recipe | None = None
        self._lock = threading.Lock()

    def joins(self, folder: Path) -> bool:
        """Whether this is a LoRA run that goes into a model that is there: quick, but not while a batch is computed.

        Raises:
            UserError: There is no run or export in the folder.
        """
        check_folder(folder)
        return not (folder / EXPORT_NAME).is_file() and self._lane_of(*read_finished_run(folder)) is not None

    def add(self, name: str, folder: Path) -> Hosted:
        """Load a run or an export.

        Raises:
            UserError: It cannot be loaded, is of another base, or the name is taken.
        """
        with self._lock:
            if name in self.models:
                raise UserError(f"there is an adapter `{name}` already", hint="Choose another name.")
            check_folder(folder)
            is_run = not (folder / EXPORT_NAME).is_file()
            recipe = self._check_base(folder) if is_run else None
            hosted = self._join(name, folder) if is_run else None
            if hosted is None:
                tuned = load_tuned(folder, offline=self._offline, device=self._device)
                check_answers(tuned)
                lane = Lane(tuned, is_run and rides_with_others(tuned.model), {name: "default"})
                if lane.is_mixed:
                    self._lanes[_lane_key(tuned.recipe, tuned.labels)] = lane
                hosted = Hosted(name, tuned, lane)
            model = hosted.tuned.model
            if model is not None:
                self._pool.share(model)
            self._base = self._base or recipe
            self.models[name] = hosted
            return hosted

    def remove(self, name: str) -> None:
        """Give a model's memory back; none of its texts may be on the way any more."""
        with self._lock:
            hosted = self.models.pop(name)
            lane = hosted.lane
            peft_name = lane.names.pop(name)
            if lane.names:
                remove_adapter(lane.first.model, peft_name)
            else:
                self._pool.keep_only(other.tuned.model for other in self.models.values() if other.tuned.model)
                self._lanes = {key: value for key, value in self._lanes.items() if value is not lane}

    def answer(self, items: Sequence[WorkItem]) -> Sequence[Prediction | Written]:
        """What the models say of texts, or write after them; all of one company."""
        is_writing = items[0].needs_host_alone
        torch.set_num_threads(self._all_threads if is_writing else self._threads)
        return self.write(items) if is_writing else self.predict(items)

    def write(self, items: Sequence[WorkItem]) -> list[Written]:
        """Texts after prompts of one adapter."""
        hosted, asked = items[0].hosted, [item.writing for item in items if item.writing is not None]
        hosted.lane.use(hosted.name)
        return generate(
            hosted.tuned,
            [item.example["input_ids"] for item in items],
            asked[0].options,
            show=asked[0].show,
            is_wanted=lambda place: not asked[place].abandoned.is_set(),
        )

    def predict(self, items: Sequence[WorkItem]) -> list[Prediction]:
        """Predictions with calibrated scores for texts of one lane."""
        lane = items[0].hosted.lane
        tokenizer = lane.first.tokenizer
        batch = lane.first.task.collate([item.example for item in items], tokenizer.pad_token_id)
        logits = lane.compute(batch, [item.hosted.name for item in items])
        found: dict[int, Prediction] = {}
        by_name: dict[str, list[int]] = {}
        for at, item in enumerate(items):
            by_name.setdefault(item.hosted.name, []).append(at)
        for places in by_name.values():
            tuned = items[places[0]].hosted.tuned
            part = {key: value[places] for key, value in batch.items()}
            predictions = tuned.task.predict(logits[places] / tuned.temperature, part, tuned.labels)
            found.update(zip(places, predictions, strict=True))
        return [found[at] for at in range(len(items))]

    def _check_base(self, folder: Path) -> Recipe:
        """A service holds one base: whoever wants two starts two."""
        _, recipe = read_finished_run(folder)
        if self._base is not None and recipe.model != self._base.model:
            raise UserError(
                f"the run was tuned from another base: {recipe.model.path}, and this service holds "
                f"{self._base.model.path} (or the two differ in dtype, revision or quantisation)",
                where=str(folder),
                hint="Start another service for it, or serve an export of it.",
            )
        return recipe

    def _join(self, name: str, folder: Path) -> Hosted | None:
        """Put a LoRA adapter into the model of a lane that it fits, without loading the base again."""
        record, recipe = read_finished_run(folder)
        lane = self._lane_of(record, recipe)
        if lane is None:
            return None
        labels = tuple(record.labels or ())
        lane.added += 1
        peft_name = f"adapter_{lane.added}"
        check_adapter(folder / ADAPTER)
        add_adapter(lane.first.model, folder, peft_name)
        lane.names[name] = peft_name
        config = replace_config(recipe.model, revision=None)
        tokenizer = load_tokenizer(str(folder / ADAPTER), config, offline=True)
        inference = lane.first.inference
        tuned = replace(
            lane.first,
            name=record.name,
            folder=folder,
            recipe=recipe,
            labels=labels,
            temperature=record.calibration.temperature if record.calibration else 1.0,
            tokenizer=tokenizer,
            inference=None if inference is None else replace(inference, tokenizer=tokenizer, labels=labels),
        )
        return Hosted(name, tuned, lane)

    def _lane_of(self, record: RunRecord, recipe: Recipe) -> Lane | None:
        return self._lanes.get(_lane_key(recipe, tuple(record.labels or ())))


def _lane_key(recipe: Recipe, labels: tuple[str, ...]) -> tuple[Any, ...]:
    """Equal for runs whose adapters fit one model: method and its settings, task, and shape of the head."""
    head = recipe.task.head(labels)
    shape = {key: value for key, value in head.config.items() if key not in {"id2label", "label2id"}}
    kind = (recipe.method.registered_name, recipe.method.model_dump_json())
    return (*kind, recipe.task.registered_name, head.auto_class, tuple(sorted(shape.items())))

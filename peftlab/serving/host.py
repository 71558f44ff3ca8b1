"""The models that a service holds: which of them can ride in one batch, and how a batch is computed."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from peftlab.artifact.hosting import (
    TensorPool,
    add_adapter,
    can_share_batches,
    may_compute_at_once,
    remove_adapter,
    use_adapter,
)
from peftlab.artifact.mixing import MixedBatch, let_adapters_mix
from peftlab.artifact.saved_export import Saved, open_saved
from peftlab.artifact.saved_run import SavedRun
from peftlab.core.capabilities import GeneratesText
from peftlab.core.errors import UserError
from peftlab.core.reporter import ProgressCallback
from peftlab.core.splits import Example
from peftlab.core.task import Prediction
from peftlab.inference.generate import GeneratedText, GenerationOptions
from peftlab.inference.joint_writing import JointWriting, WantedText
from peftlab.inference.load_tuned import load_tuned
from peftlab.inference.predict import check_answers
from peftlab.inference.tuned_model import TunedModel
from peftlab.recipe.schema import Recipe
from peftlab.serving.card_trouble import told

Answer = Prediction | Tensor
"""What is said of a text, or read in it."""

OF_A_TABLE = {"max_length", "text", "label", "query", "document", "negatives"}
"""Keys of tasks that say which columns were learned from, and how much of a text is read: not how it is computed."""


@dataclass
class AdapterGroup:
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
        # An ensemble has models of its own, and an ONNX session is fit for threads.
        models = [each.model for each in (self.first, *getattr(self.first, "members", ())) if each.model is not None]
        is_safe = all(map(may_compute_at_once, models))
        self._turn: contextlib.AbstractContextManager[Any] = contextlib.nullcontext() if is_safe else threading.Lock()
        self._switching, self._in_use = threading.RLock(), ""
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
        name = self.names[adapter]
        with self._switching:
            if self.is_mixed and name != self._in_use:
                use_adapter(self.first.model, name)
                self._in_use = name

    @contextlib.contextmanager
    def only(self, adapter: str) -> Iterator[None]:
        """Let the model be this adapter's as long as the context lasts, whatever other threads ask of the others."""
        with self._switching if len(self.names) > 1 else contextlib.nullcontext(), self._turn:
            self.use(adapter)
            yield

    def join(self, adapter: str, folder: Path) -> None:
        """Put another adapter into the model.

        Raises:
            UserError: It cannot be loaded.
        """
        self.added += 1
        name, self._in_use = f"adapter_{self.added}", ""  # whatever peft does to those that are there
        add_adapter(self.first.model, folder, name)
        self.names[adapter] = name

    def leave(self, adapter: str) -> None:
        """Take an adapter out."""
        name, self._in_use = self.names.pop(adapter), ""
        if self.names:
            remove_adapter(self.first.model, name)


@dataclass(frozen=True)
class Hosted:
    """One tuned model in the service."""

    name: str
    tuned: TunedModel
    group: AdapterGroup
    loaded_at: int = field(default_factory=lambda: int(time.time()))

    @property
    def generates(self) -> bool:
        """Whether it writes text, and predicts nothing."""
        return isinstance(self.tuned.task, GeneratesText)


@dataclass(frozen=True)
class TextRequest:
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
    """One text on its way through the model; with ``writing``, its example is a prompt.

    Args:
        hosted: The model that is asked.
        example: Of its task.
        writing: How a text is to be written; None: none is.
        reading: What is made of the logits, an item a row, in the place of the task's predictions.
    """

    hosted: Hosted
    example: Example
    writing: TextRequest | None = None
    reading: Callable[[Tensor], Tensor] | None = None

    @property
    def batch_key(self) -> Hashable:
        """Equal for those of which one batch can be computed."""
        return id(self.hosted.group) if self.reading is None else (id(self.hosted.group), self.reading.__name__)


class Host:
    """Holds models by name.

    Several threads may ``answer`` at once. Removing a model, adding one that ``joins`` another, and ``write`` must not
    happen while a batch is computed.

    Args:
        offline: Allow no network.
        threads: Of the CPU for a batch that is computed beside others; None: all.
        device: Where models compute; None: CUDA where it is there.
        report: Is told of downloads, and of settings that count in training alone.
    """

    def __init__(
        self,
        *,
        offline: bool = False,
        threads: int | None = None,
        device: torch.device | None = None,
        report: ProgressCallback | None = None,
    ) -> None:
        self._all_threads = torch.get_num_threads()
        self._threads = threads or self._all_threads
        self.models: dict[str, Hosted] = {}
        self._groups: dict[Any, AdapterGroup] = {}
        self._pool = TensorPool()
        self._offline, self._device, self._report = offline, device, report
        self._base: Recipe | None = None
        self._written: dict[str, _Written] = {}
        self._lock = threading.Lock()

    def joins(self, folder: Path) -> bool:
        """Whether this is a LoRA run that goes into a model that is there: quick, but not while a batch is computed.

        Raises:
            UserError: There is no run or export in the folder.
        """
        saved = open_saved(folder)
        return isinstance(saved, SavedRun) and self._group_of(saved) is not None

    def add(self, name: str, folder: Path) -> Hosted:
        """Load a run or an export.

        Raises:
            UserError: It cannot be loaded, is of another base, or the name is taken.
        """
        with self._lock:
            if name in self.models:
                raise UserError(f"there is an adapter `{name}` already", hint="Choose another name.")
            saved = open_saved(folder)
            hosted = None
            if isinstance(saved, SavedRun):
                self._check_base(saved)
                hosted = self._join(name, saved)
            hosted = hosted or self._load(name, saved)
            if isinstance(saved, SavedRun):
                self._base = self._base or saved.recipe
            self.models[name] = hosted
            return hosted

    def remove(self, name: str) -> None:
        """Give a model's memory back; none of its texts may be on the way any more."""
        with self._lock:
            hosted = self.models.pop(name)
            self._written.pop(name, None)  # what is still there is wanted by nobody
            group = hosted.group
            group.leave(name)
            if not group.names:
                self._groups = {key: value for key, value in self._groups.items() if value is not group}
            self._pool.keep_only(other.tuned.model for other in self.models.values() if other.tuned.model)

    def answer(self, items: Sequence[WorkItem]) -> Sequence[Answer]:
        """What the models say of texts, or read in them; all with one ``batch_key``."""
        torch.set_num_threads(self._threads)
        return self.predict(items) if items[0].reading is None else self.read(items)

    def write(self, newcomers: Sequence[WorkItem]) -> list[tuple[WorkItem, GeneratedText | Exception]]:
        """A token of each text that is being written (:class:`JointWriting`), those that come new among them.

        Returns:
            The texts that have ended, or why they could not be written.
        """
        torch.set_num_threads(self._all_threads)
        for item in newcomers:
            self._written.setdefault(item.hosted.name, _Written(item.hosted)).add(item)
        ended: list[tuple[WorkItem, GeneratedText | Exception]] = []
        for name, written in list(self._written.items()):
            ended += written.advance()
            if not written.items:
                del self._written[name]
        return ended

    def predict(self, items: Sequence[WorkItem]) -> list[Prediction]:
        """Predictions with calibrated scores for texts of one group."""
        found: dict[int, Prediction] = {}
        by_name: dict[str, list[int]] = {}
        for at, item in enumerate(items):
            by_name.setdefault(item.hosted.name, []).append(at)
        first = items[0].hosted.tuned
        task = first.task
        if first.computes_alone or not (task.predicts_from_logits and task.one_row_an_example):  # one adapter at a time
            for places in by_name.values():
                hosted = items[places[0]].hosted
                with hosted.group.only(hosted.name):
                    said = hosted.tuned.predict([items[at].example for at in places])
                found.update(zip(places, said, strict=True))
            return [found[at] for at in range(len(items))]
        batch, logits = _logits(items)
        for places in by_name.values():
            tuned = items[places[0]].hosted.tuned
            part = {key: value[places] for key, value in batch.items()}
            own = logits[places][..., : _outputs(tuned)]  # a wider head may be in the batch
            predictions = tuned.read_logits(own, part)
            found.update(zip(places, predictions, strict=True))
        return [found[at] for at in range(len(items))]

    def read(self, items: Sequence[WorkItem]) -> list[Tensor]:
        """What each item's ``reading`` makes of its logits: a vector, or a number."""
        _, logits = _logits(items)
        for item, row in zip(items, logits, strict=True):
            item.hosted.tuned.check_numbers(row)
        return [item.reading(row[None])[0] for item, row in zip(items, logits, strict=True) if item.reading]

    def _check_base(self, run: SavedRun) -> None:
        """A service holds one base: whoever wants two starts two."""
        model = run.recipe.model
        if self._base is not None and model != self._base.model:
            raise UserError(
                f"the run was tuned from another base: {model.path}, and this service holds "
                f"{self._base.model.path} (or the two differ in dtype, revision or quantisation)",
                where=str(run.folder),
                hint="Start another service for it, or serve an export of it.",
            )

    def _load(self, name: str, saved: Saved) -> Hosted:
        tuned = load_tuned(saved, offline=self._offline, device=self._device, report=self._report)
        check_answers(tuned)
        if tuned.model is not None:  # one that others join later shares its base with the others already
            self._pool.share(tuned.model)
        is_mixed = isinstance(saved, SavedRun) and can_share_batches(tuned.model)
        group = AdapterGroup(tuned, is_mixed, {name: "default"})
        if is_mixed and isinstance(saved, SavedRun):
            self._groups[_group_key(saved)] = group
        return Hosted(name, tuned, group)

    def _join(self, name: str, run: SavedRun) -> Hosted | None:
        """Put a LoRA adapter into the model of a group that it fits, without loading the base again."""
        group = self._group_of(run)
        if group is None:
            return None
        group.join(name, run.folder)
        inference = group.first.inference
        tuned = replace(
            TunedModel.of_logits(run, group.first.compute_logits),
            model=group.first.model,
            inference=inference and replace(inference, tokenizer=run.tokenizer, labels=run.labels),
        )
        return Hosted(name, tuned, group)

    def _group_of(self, run: SavedRun) -> AdapterGroup | None:
        return self._groups.get(_group_key(run))


class _Written:
    """The texts that one model is writing."""

    def __init__(self, hosted: Hosted) -> None:
        self._hosted, self._texts = hosted, JointWriting(hosted.tuned)
        self.items: dict[WantedText, WorkItem] = {}

    def add(self, item: WorkItem) -> None:
        """A text to write."""
        assert item.writing is not None  # noqa: S101 - it is one
        abandoned = item.writing.abandoned
        wanted = WantedText(
            item.example["input_ids"], item.writing.options, item.writing.show, lambda: not abandoned.is_set()
        )
        self.items[wanted] = item
        self._texts.add(wanted)

    def advance(self) -> list[tuple[WorkItem, GeneratedText | Exception]]:
        """A token of each."""
        try:
            self._hosted.group.use(self._hosted.name)
            return [(self.items.pop(wanted), text) for wanted, text in self._texts.advance()]
        except Exception as error:  # noqa: BLE001 - those who wait must hear of it, and the service goes on
            trouble, items = told(error), list(self.items.values())
            self.items.clear()
            return [(item, trouble) for item in items]


def _logits(items: Sequence[WorkItem]) -> tuple[dict[str, Tensor], Tensor]:
    """The batch of items of one group, and its logits."""
    group = items[0].hosted.group
    batch = group.first.task.collate([item.example for item in items], group.first.tokenizer.pad_token_id)
    return batch, group.compute(batch, [item.hosted.name for item in items])


def _outputs(tuned: TunedModel) -> int | None:
    """How many outputs the head has; None: as many as there are."""
    count = tuned.task.head(tuned.labels).config.get("num_labels")
    return None if count is None else int(count)


def why_apart(one: Recipe, other: Recipe) -> str | None:
    """What keeps the adapters of two recipes out of one batch; None: nothing that can be told before they are tuned."""
    if one.model != other.model:
        return "their bases differ, or how these are loaded"
    if _method_key(one) != _method_key(other):
        return "their methods differ"
    if not one.method.has_low_rank_updates:
        return f"{one.method.registered_name} has no low-rank updates"
    return None if _task_key(one) == _task_key(other) else "their tasks differ in more than columns and lengths"


def _group_key(run: SavedRun) -> tuple[Any, ...]:
    """Equal for runs whose adapters fit one model: weights of the base, method, task, settings, and kind of head."""
    recipe, head = run.recipe, run.recipe.task.head(run.labels)
    shape = {key: value for key, value in head.config.items() if key not in {"id2label", "label2id", "num_labels"}}
    settings = (*_method_key(recipe), *_task_key(recipe))
    return (run.record.base_fingerprint, *settings, head.auto_class, tuple(sorted(shape.items())))


def _method_key(recipe: Recipe) -> tuple[str, str]:
    return recipe.method.registered_name, recipe.method.model_dump_json()


def _task_key(recipe: Recipe) -> tuple[str, str]:
    return recipe.task.registered_name, recipe.task.model_dump_json(exclude=OF_A_TABLE)

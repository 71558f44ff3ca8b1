"""The tuned parts, in memory, as the application asks them."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from peftlab.core.application import Workplace
from peftlab.core.capabilities import EmbedsText, GeneratesText, ScoresPairs
from peftlab.core.devices import choose_device
from peftlab.core.errors import UnsupportedError
from peftlab.core.splits import Example, Split
from peftlab.inference.load_tuned import load_tuned
from peftlab.inference.tuned_model import TunedModel

Floats = NDArray[np.float32]
BATCH = 64
NEEDED: dict[str, tuple[type, str]] = {
    "embedding": (EmbedsText, "text_embedding"),
    "reranking": (ScoresPairs, "reranking"),
    "writer": (GeneratesText, "instruction_tuning"),
}


@dataclass(frozen=True)
class Parts:
    """The parts of one application; one question at a time reads, and one writes.

    Args:
        embedding: Gives vectors.
        intents: Tells intents.
        reranking: Scores pairs.
        writer: Writes.
    """

    embedding: TunedModel
    intents: TunedModel | None = None
    reranking: TunedModel | None = None
    writer: TunedModel | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def intent_names(self) -> tuple[str, ...]:
        """In the order of the logits."""
        return self.intents.labels if self.intents is not None else ()

    def embed(self, texts: Sequence[str]) -> Floats:
        """A vector of length 1 for each text (texts × size)."""
        task = self.embedding.task
        assert isinstance(task, EmbedsText)  # noqa: S101 - looked at when it was loaded
        examples = task.embedding_examples(texts, self.embedding.tokenizer)
        vectors = self._compute(self.embedding, examples, task.embeddings)
        return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9), dtype=np.float32)

    def intent_logits(self, texts: Sequence[str]) -> Floats:
        """Texts × intents; of no intents where the part is missing."""
        if self.intents is None:
            return np.zeros((len(texts), 0), dtype=np.float32)
        (column,) = self.intents.task.text_columns()
        rows = Split("questions", range(len(texts)), {column: list(texts)})
        examples = self.intents.encode(rows).examples
        return self._compute(self.intents, examples, lambda logits: logits) / self.intents.temperature

    def pair_scores(self, pairs: Sequence[tuple[str, str]]) -> Floats:
        """How well each document answers its query (pairs); of no meaning where the part is missing."""
        if self.reranking is None or not pairs:
            return np.zeros(len(pairs), dtype=np.float32)
        task = self.reranking.task
        assert isinstance(task, ScoresPairs)  # noqa: S101 - looked at when it was loaded
        examples = task.pair_examples(list(pairs), self.reranking.tokenizer)
        return self._compute(self.reranking, examples, task.pair_scores)

    def _compute(self, model: TunedModel, examples: Sequence[Example], read: Any) -> Floats:
        order = np.argsort(model.task.lengths(examples), kind="stable")
        found: list[Any] = [None] * len(examples)
        for start in range(0, len(order), BATCH):
            places = order[start : start + BATCH].tolist()
            batch = model.task.collate([examples[at] for at in places], model.tokenizer.pad_token_id)
            with self.lock, torch.inference_mode():
                read_of = read(model.compute_logits(batch)).float().numpy()
            for place, row in zip(places, read_of, strict=True):
                found[place] = row
        return np.asarray(found, dtype=np.float32)


def load_parts(place: Workplace, *, with_writer: bool = True) -> Parts:
    """Load all parts of a place.

    Raises:
        UnsupportedError: A part's task cannot do what is asked of it.
    """
    found: dict[str, TunedModel] = {}
    for key, folder in place.runs.items():
        if key == "writer" and not with_writer:
            continue
        found[key] = load_tuned(folder, offline=place.offline, device=choose_device(place.device))
        check_part(key, found[key], str(folder))
    return Parts(found["embedding"], found.get("intents"), found.get("reranking"), found.get("writer"))


def check_part(key: str, model: TunedModel, where: str) -> None:
    """Refuse a part that does not fit.

    Raises:
        UnsupportedError: Naming the task that is needed.
    """
    task = model.task
    if key in NEEDED:
        capability, wanted = NEEDED[key]
        fits = isinstance(task, capability)
    else:
        fits, wanted = bool(model.labels) and len(task.text_columns()) == 1, "text_classification"
    if not fits:
        raise UnsupportedError(
            f"the part `{key}` is a run of {task.registered_name}", where=where, hint=f"It needs one of {wanted}."
        )

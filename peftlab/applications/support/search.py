"""Which entry answers a question: vectors, words, intents and a second reading, weighed together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from peftlab.applications.support.company import TRAIN, Company, Entry, Question
from peftlab.applications.support.parts import Parts
from peftlab.applications.support.prompting import document_of
from peftlab.applications.support.weights import Weights
from peftlab.applications.support.words import WordIndex
from peftlab.statistics.out_of_scope import MahalanobisScorer, NeighborScorer, energy_scores

Floats = NDArray[np.float64]
INDEX_NAME = "index.safetensors"
AT_ONCE = 256
SCORES = ("energy", "mahalanobis", "neighbor")
NEIGHBORS = 3
FUSED, FULL = slice(0, 4), slice(0, 7)
"""Of the features of a candidate: those of vectors and words; those of intents too."""


@dataclass(frozen=True)
class Read:
    """What the parts say of some questions.

    Args:
        own: Cosine to each entry's question (questions × entries).
        features: Of each candidate (questions × entries × 7).
        words: BM25 of each entry (questions × entries).
        intent_logits: Questions × intents.
        strangeness: How little a question looks like those that are known (questions × SCORES).
    """

    own: Floats
    features: Floats
    words: Floats
    intent_logits: Floats
    strangeness: Floats

    @property
    def intent_probabilities(self) -> Floats:
        """Questions × intents."""
        from scipy.special import softmax

        return np.asarray(softmax(self.intent_logits, axis=1)) if self.intent_logits.size else self.intent_logits


@dataclass(frozen=True)
class Ranked:
    """The best entries of some questions, and what is known of them.

    Args:
        order: Positions of entries, the best first (questions × entries that were ordered anew).
        scores: Log-odds that each is right (the same shape).
        evidence: What tells how sure the first one is (questions × figures).
    """

    order: NDArray[np.int64]
    scores: Floats
    evidence: Floats


class Searcher:
    """Reads questions.

    Args:
        company: Its entries, and its questions of training.
        parts: Of the application.
        vectors: Of entries and past questions; None: they are made.
    """

    def __init__(self, company: Company, parts: Parts, vectors: dict[str, Any] | None = None) -> None:
        self.entries: Sequence[Entry] = company.entries
        self.past: list[Question] = [each for each in company.of(TRAIN, judged=False) if each.reply or each.entry]
        self._parts = parts
        self._words = WordIndex([document_of(entry) for entry in self.entries])
        made = vectors or {
            "entries": parts.embed([entry.question for entry in self.entries]),
            "past": parts.embed([each.text for each in self.past]),
        }
        self.vectors = made
        at = {entry.id: place for place, entry in enumerate(self.entries)}
        self._owners = np.array([at.get(each.entry or "", -1) for each in self.past], dtype=np.int64)
        self.intent_names = parts.intent_names
        names = {name: place for place, name in enumerate(parts.intent_names)}
        self._intent_of = np.array([names.get(entry.intent or "", -1) for entry in self.entries], dtype=np.int64)

    @classmethod
    def load(cls, folder: Path, company: Company, parts: Parts) -> Searcher:
        """With the vectors of the application's folder."""
        from safetensors.numpy import load_file

        return cls(company, parts, load_file(folder / INDEX_NAME))

    def save(self, folder: Path) -> None:
        """Write the vectors."""
        from safetensors.numpy import save_file

        from peftlab.core.files import atomic_file

        with atomic_file(folder / INDEX_NAME) as partial:
            save_file(self.vectors, partial)

    def read(self, texts: Sequence[str]) -> Read:
        """What the parts say of questions."""
        pieces = [self._read(texts[start : start + AT_ONCE]) for start in range(0, len(texts), AT_ONCE)]
        fields = ("own", "features", "words", "intent_logits", "strangeness")
        return Read(**{name: np.concatenate([getattr(piece, name) for piece in pieces]) for name in fields})

    def _read(self, texts: Sequence[str]) -> Read:
        vectors = self._parts.embed(texts)
        own = (vectors @ self.vectors["entries"].T).astype(np.float64)
        past = self._past_scores(vectors, own)
        words = np.array([self._words.scores(text) for text in texts], dtype=np.float64)
        logits = self._parts.intent_logits(texts).astype(np.float64)
        wanted = self._intent_scores(logits, own.shape)
        most = np.maximum(words.max(axis=1, keepdims=True), 1e-9)
        features = np.stack(
            [own, past, words / most, words / 10, wanted, np.log(wanted + 1e-4), 0 * own + (self._intent_of >= 0)],
            axis=2,
        )
        return Read(own, features, words, logits, self._strangeness(vectors.astype(np.float64), logits))

    def _strangeness(self, vectors: Floats, logits: Floats) -> Floats:
        """Energy of the intents' logits; distances to the known questions' entries, and to the questions themselves."""
        energy = energy_scores(logits) if logits.shape[1] else np.zeros(len(vectors))
        far, near = self._scorers
        return np.stack(
            [energy, np.zeros(len(vectors)) if far is None else far.score(vectors), near.score(vectors)], axis=1
        )

    @cached_property
    def _scorers(self) -> tuple[MahalanobisScorer | None, NeighborScorer]:
        known = np.concatenate([self.vectors["entries"], self.vectors["past"][self._owners >= 0]]).astype(np.float64)
        classes = np.concatenate([np.arange(len(self.entries)), self._owners[self._owners >= 0]])
        near = NeighborScorer.fit(known, min(NEIGHBORS, len(known)))
        return (MahalanobisScorer.fit(known, classes) if len(known) > 2 * len(self.entries) else None), near

    def _past_scores(self, vectors: Any, own: Floats) -> Floats:
        """Cosine to the nearest past question of each entry; to the entry's own where none was asked."""
        if not self.past:
            return own
        all_scores = vectors @ self.vectors["past"].T
        found = own.copy()
        for entry, places in self._past_of.items():
            found[:, entry] = all_scores[:, places].max(axis=1)
        return found

    @cached_property
    def _past_of(self) -> dict[int, NDArray[np.int64]]:
        order = np.argsort(self._owners, kind="stable")
        owners, starts = np.unique(self._owners[order], return_index=True)
        groups = np.split(order, starts[1:])
        return {int(owner): places for owner, places in zip(owners, groups, strict=True) if owner >= 0}

    def _intent_scores(self, logits: Floats, shape: tuple[int, ...]) -> Floats:
        from scipy.special import softmax

        if not logits.shape[1]:
            return np.zeros(shape)
        known = np.asarray(softmax(logits, axis=1))
        return np.where(self._intent_of >= 0, known[:, np.maximum(self._intent_of, 0)], 0.0)

    def similar_past(self, text: str, count: int) -> list[Question]:
        """The past questions that lie nearest, for agents."""
        if not self.past:
            return []
        scores = self.vectors["past"] @ self._parts.embed([text])[0]
        return [self.past[at] for at in np.argsort(-scores, kind="stable")[:count].tolist()]

    def rank(self, texts: Sequence[str], read: Read, full: Weights, again: Weights | None, count: int) -> Ranked:
        """Order the best entries.

        Args:
            texts: The questions.
            read: What was read of them.
            full: Weighs vectors, words and intents.
            again: Weighs that and the second reading; None: there is none.
            count: Entries that are ordered.
        """
        count = min(count, len(self.entries))
        scores = full.log_odds(read.features[:, :, FULL])
        order = np.argsort(-scores, axis=1, kind="stable")[:, :count]
        best = np.take_along_axis(scores, order, axis=1)
        second = np.zeros_like(best)
        if again is not None:
            second = self.read_again(texts, order)
            best = again.log_odds(np.stack([best, second], axis=2))
            anew = np.argsort(-best, axis=1, kind="stable")
            order = np.take_along_axis(order, anew, axis=1)
            best, second = np.take_along_axis(best, anew, axis=1), np.take_along_axis(second, anew, axis=1)
        return Ranked(order, best, _evidence(read, order, best, second))

    def read_again(self, texts: Sequence[str], order: NDArray[np.int64]) -> Floats:
        """Scores of the reranking part (questions × entries)."""
        pairs = [(text, document_of(self.entries[at])) for text, row in zip(texts, order, strict=True) for at in row]
        return self._parts.pair_scores(pairs).astype(np.float64).reshape(order.shape)


def _evidence(read: Read, order: NDArray[np.int64], scores: Floats, second: Floats) -> Floats:
    """What tells how sure the first entry is."""
    first = order[:, :1]

    def of_first(values: Floats) -> Floats:
        return np.asarray(np.take_along_axis(values, first, axis=1)[:, 0])

    sure = read.intent_probabilities.max(axis=1) if read.intent_logits.shape[1] else np.zeros(len(order))
    gap = scores[:, 0] - scores[:, 1] if scores.shape[1] > 1 else np.zeros(len(order))
    gap_again = second[:, 0] - second[:, 1] if scores.shape[1] > 1 else np.zeros(len(order))
    return np.stack(
        [
            scores[:, 0], gap, second[:, 0], gap_again, of_first(read.own), of_first(read.features[:, :, 1]),
            of_first(read.words) / 10, of_first(read.features[:, :, 4]), sure, *read.strangeness.T,
        ],
        axis=1,
    )  # fmt: skip

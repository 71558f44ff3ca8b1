"""Audited rows without a run: a model that is any function of a text to probabilities."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from peftlab.audit.word_vectors import word_vectors
from peftlab.core.audit import AttributedWord, Audited
from peftlab.core.splits import Split
from peftlab.core.task import TASKS, Prediction


class FunctionModel:
    """Classifies texts by a function."""

    name = "function"

    def __init__(self, scores: Callable[[str], Sequence[float]], labels: tuple[str, ...]) -> None:
        self.scores, self.labels, self.task = scores, labels, TASKS["text_classification"]()

    def predict(self, rows: Split) -> list[Prediction]:
        found = []
        texts = rows.columns["text"]
        for text, label in zip(texts, rows.columns.get("label", [""] * len(texts)), strict=True):
            scores = list(self.scores(text))
            found.append(Prediction(label, self.labels[int(np.argmax(scores))], scores))
        return found

    def logits(self, rows: Split) -> Any:
        return np.log([self.scores(text) for text in rows.columns["text"]])

    def log_likelihoods(self, texts: Sequence[str]) -> None:
        return None

    def write(self, prompts: Sequence[str]) -> list[str] | None:
        return None

    def attributions(self, text: str, target: str) -> list[AttributedWord] | None:
        """By leaving out each word."""
        words, at = text.split(), self.labels.index(target)
        whole = self.scores(text)[at]
        rests = [" ".join(words[:place] + words[place + 1 :]) for place in range(len(words))]
        return [
            AttributedWord(word, after_blank=True, value=whole - self.scores(rest)[at])
            for word, rest in zip(words, rests, strict=True)
        ]

    def randomized(self) -> None:
        return None

    def embed(self, rows: Split) -> Any:
        return word_vectors(rows.columns["text"])


class NumberModel(FunctionModel):
    """Gives each text a number."""

    def __init__(self, value: Callable[[str], float]) -> None:
        super().__init__(lambda text: [value(text)], ())
        self.task = TASKS["text_regression"]()

    def predict(self, rows: Split) -> list[Prediction]:
        numbers = [self.scores(text)[0] for text in rows.columns["text"]]
        return [Prediction(float(label), x, [x]) for label, x in zip(rows.columns["label"], numbers, strict=True)]


def split(name: str, texts: Sequence[str], labels: Sequence[str]) -> Split:
    return Split(name, range(len(texts)), {"text": list(texts), "label": list(labels)})


def audited(
    scores: Callable[[str], Sequence[float]],
    texts: Sequence[str],
    labels: Sequence[str],
    classes: tuple[str, ...] = ("bad", "good"),
    train: Split | None = None,
    read_table: Any = None,
) -> Audited:
    model, rows = FunctionModel(scores, classes), split("test", texts, labels)
    return Audited(model, rows, model.predict(rows), train, read_table=read_table)


def audited_numbers(value: Callable[[str], float], texts: Sequence[str], labels: Sequence[float]) -> Audited:
    model, rows = NumberModel(value), split("test", texts, [str(label) for label in labels])
    return Audited(model, rows, model.predict(rows))

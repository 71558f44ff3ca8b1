"""Audited rows without a run: a model that is any function of a text, to probabilities, to a number, or to tags."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from peftlab.audit.word_vectors import word_vectors
from peftlab.core.audit import AttributedWord, Audited, AuditedModel
from peftlab.core.splits import Split
from peftlab.core.task import TASKS, Prediction

Scores = Callable[[str], Sequence[float]]


class FunctionModel:
    """Classifies texts by a function.

    Args:
        scores: Of a text, the probability of each class.
        labels: Names of the classes.
    """

    name = "function"

    def __init__(self, scores: Scores, labels: tuple[str, ...]) -> None:
        self.scores, self.labels, self.task = scores, labels, TASKS["text_classification"]()

    def predict(self, rows: Split) -> list[Prediction]:
        """The most probable class of each row."""
        found = []
        texts = rows.columns["text"]
        for text, label in zip(texts, rows.columns.get("label", [""] * len(texts)), strict=True):
            scores = list(self.scores(text))
            found.append(Prediction(label, self.labels[int(np.argmax(scores))], scores))
        return found

    def logits(self, rows: Split) -> Any:
        """Logarithms of the probabilities."""
        return np.log([self.scores(text) for text in rows.columns["text"]])

    def pair_log_likelihoods(self, pairs: Sequence[tuple[str, str]]) -> None:
        """None: it is no language model."""

    def log_likelihoods(self, texts: Sequence[str]) -> None:
        """It is no language model."""

    def write(self, prompts: Sequence[str]) -> list[str] | None:
        """It writes nothing."""
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

    def randomized(self) -> AuditedModel | None:
        """It has no weights."""
        return None

    def embed(self, rows: Split) -> Any:
        """Of the words."""
        return word_vectors([str(text) for text in rows.columns["text"]])


class NumberModel(FunctionModel):
    """Gives each text a number.

    Args:
        value: Of a text, the number.
    """

    def __init__(self, value: Callable[[str], float]) -> None:
        super().__init__(lambda text: [value(text)], ())
        self.task = TASKS["text_regression"]()

    def predict(self, rows: Split) -> list[Prediction]:
        """The number of each row."""
        numbers = [self.scores(text)[0] for text in rows.columns["text"]]
        return [Prediction(float(label), x, [x]) for label, x in zip(rows.columns["label"], numbers, strict=True)]


class TagModel(FunctionModel):
    """Gives each word a tag.

    Args:
        tag: Of a word, its tag.
    """

    def __init__(self, tag: Callable[[str], str]) -> None:
        super().__init__(lambda _: [], ("O", "B-GOOD"))
        self.task, self.tag = TASKS["token_classification"](tokens="text", tags="label"), tag

    def predict(self, rows: Split) -> list[Prediction]:
        """The tags of each row."""
        said = [[self.tag(word) for word in words] for words in rows.columns["text"]]
        return [Prediction(label, tags, []) for label, tags in zip(rows.columns["label"], said, strict=True)]

    def logits(self, rows: Split) -> Any:
        """A row has no such vector."""


def split(name: str, texts: Sequence[Any], labels: Sequence[Any]) -> Split:
    """Rows of a text and a label."""
    return Split(name, range(len(texts)), {"text": list(texts), "label": list(labels)})


def audited(
    scores: Scores,
    texts: Sequence[str],
    labels: Sequence[str],
    classes: tuple[str, ...] = ("bad", "good"),
    train: Split | None = None,
    read_table: Any = None,
) -> Audited:
    """Rows, and what a function says of them."""
    model, rows = FunctionModel(scores, classes), split("test", texts, labels)
    return Audited(model, rows, model.predict(rows), train, read_table=read_table)


def audited_numbers(value: Callable[[str], float], texts: Sequence[str], labels: Sequence[float]) -> Audited:
    """Rows with numbers, and what a function says of them."""
    model, rows = NumberModel(value), split("test", texts, [str(label) for label in labels])
    return Audited(model, rows, model.predict(rows))


def audited_tags(tag: Callable[[str], str], texts: Sequence[Sequence[str]], labels: Sequence[Sequence[str]]) -> Audited:
    """Rows of words with tags, and what a function says of them."""
    model, rows = TagModel(tag), split("test", texts, labels)
    return Audited(model, rows, model.predict(rows))

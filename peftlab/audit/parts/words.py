"""Single words that decide: which of them, put before other texts, turn the answers to a class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import Field

from peftlab.core.audit import AUDITS, Audit, Audited, Figure, Findings, texts_of
from peftlab.core.splits import Split
from peftlab.core.words import word_set
from peftlab.statistics.means import Mean, mean_with_interval

EXAMPLES = 3


@dataclass(frozen=True)
class _Candidate:
    word: str
    label: str
    share: float
    """Of the texts with the word, how many have the label."""
    rows: int


@dataclass(frozen=True)
class _Tried:
    candidate: _Candidate
    turned: Mean
    sureness: float
    """The mean probability of the class in the texts with the word before them; 0 where there are none."""
    examples: list[dict[str, object]]


@AUDITS.register("words")
class Words(Audit):
    """Words that by themselves turn answers to a class, wherever they stand (spurious correlation)."""

    title = "Words that decide by themselves"
    order = 60

    words: int = Field(40, ge=1, description="Words to try: those that go most with one class.")
    texts: int = Field(40, ge=10, description="Texts of other classes before which each word is put.")
    fewest_texts: int = Field(5, ge=2, description="Words in fewer texts are not looked at.")
    shown: int = Field(10, ge=1, description="Words that are told, those that turn most texts first.")

    def why_not(self, audited: Audited) -> str | None:
        """It needs one class a row, and texts that are strings."""
        if audited.classes is None:
            return "the model does not give one class to each text"
        if audited.why_not_rewritten:
            return audited.why_not_rewritten
        columns = [audited.rows.columns[name] for name in audited.task.text_columns()]
        if not all(isinstance(value, str) for column in columns for value in column):
            return "its texts are lists of words with a label each"
        return None

    def texts_read(self, audited: Audited) -> int:
        """Each word is put before its texts."""
        return self.words * min(self.texts, len(audited))

    def run(self, audited: Audited) -> Findings:
        """Find the words in what the model was trained on, and try them on what it was not."""
        candidates = _candidates(audited, self.words, self.fewest_texts)
        tried = [found for each in candidates if (found := self._try(audited, each, len(candidates))) is not None]
        if not tried:
            return Findings((), ["No word goes with one class more than chance explains."])
        # By the lower end: of two that turn the same share, the one is first that was tried on more texts.
        tried.sort(key=lambda each: (-each.turned.low, -each.sureness, each.candidate.word))
        words = {each.candidate.word: each for each in reversed(tried)}  # of several classes the one it turns most to
        shown = [each for each in tried if words[each.candidate.word] is each][: self.shown]
        figures = [_strongest(shown[0]), *map(_figure, shown)]
        return Findings(figures, [f"{len(words)} words were tried. Words that mean the class may turn answers; names, "
                                  "marks, and words of no meaning should not."])  # fmt: skip

    def _try(self, audited: Audited, each: _Candidate, looked_at: int) -> _Tried | None:
        others = [
            at
            for at in audited.random(f"words {each.word}").permutation(len(audited)).tolist()
            if audited.predictions[at].prediction != each.label and each.word not in word_set(audited.texts[at])
        ][: self.texts]
        if len(others) < 10:
            return None
        changed = audited.rewritten(others, lambda text: f"{each.word} {text}")
        answers = audited.model.predict(changed)
        turned = np.array([answer.prediction == each.label for answer in answers], dtype=np.float64)
        examples = [
            audited.example(others[at], with_the_word=answers[at].prediction) for at in turned.nonzero()[0][:EXAMPLES]
        ]
        sureness = 0.0
        if audited.probabilities is not None:
            at_label = audited.model.labels.index(each.label)
            sureness = sum(answer.scores[at_label] for answer in answers) / len(answers)
        return _Tried(each, mean_with_interval(turned, looked_at=looked_at), sureness, examples)


def _strongest(tried: _Tried) -> Figure:
    each, turned = tried.candidate, tried.turned
    return turned.figure(
        "words.strongest",
        f"The word that turns most answers is `{each.word}`: put before texts, it turns {turned.value:.1%} of them to "
        f"{each.label}.",
    )


def _figure(tried: _Tried) -> Figure:
    each, turned = tried.candidate, tried.turned
    return turned.figure(
        f"words.turned.{each.word}",
        f"`{each.word}` before a text turns {turned.value:.1%} of other answers to {each.label}. Of the {each.rows} "
        f"texts with it, {each.share:.0%} are {each.label}.",
        examples=tried.examples,
    )


def _candidates(audited: Audited, most: int, fewest: int) -> list[_Candidate]:
    """Words that go with a class, by their labels in training, or else by what the model says of the audited rows.

    A word's score is that of Gardner et al. (Competency Problems, EMNLP 2021): how many standard errors the class's
    share among the texts with the word is above its share among all texts.
    """
    texts, labels = _labelled(audited)
    total = Counter(labels)
    pairs: Counter[tuple[str, str]] = Counter()
    counts: Counter[str] = Counter()
    for text, label in zip(texts, labels, strict=True):
        words = word_set(text)
        counts.update(words)
        pairs.update((word, label) for word in words)
    scored = []
    for (word, label), together in pairs.items():
        usual, rows = total[label] / len(labels), counts[word]
        if rows >= fewest and usual < 1:
            score = (together / rows - usual) / (usual * (1 - usual) / rows) ** 0.5
            if score > 2:
                scored.append((-score, _Candidate(word, label, together / rows, rows)))
    scored.sort(key=lambda each: (each[0], each[1].word, each[1].label))
    return [each for _, each in scored[:most]]


def _labelled(audited: Audited) -> tuple[Sequence[str], Sequence[str]]:
    train, columns = audited.train, audited.task.label_columns()
    if train is not None and len(columns) == 1 and _has_labels(train, columns[0], audited.model.labels):
        return texts_of(train, audited.task), [str(value) for value in train.columns[columns[0]]]
    return audited.texts, [each.prediction for each in audited.predictions]


def _has_labels(train: Split, column: str, labels: Sequence[str]) -> bool:
    return {str(value) for value in train.columns[column]} <= set(labels)

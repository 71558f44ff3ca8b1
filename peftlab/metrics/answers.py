"""Exact match and F1 as SQuAD 2.0's official script has them (https://rajpurkar.github.io/SQuAD-explorer/)."""

from __future__ import annotations

import re
import string
from abc import abstractmethod
from collections import Counter
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from peftlab.core.metric import METRICS, Metric, Unit

_ARTICLES = re.compile(r"\b(a|an|the)\b", re.UNICODE)
_WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalised(answer: str) -> str:
    """In small letters, without punctuation, English articles and further blanks."""
    return " ".join(_ARTICLES.sub(" ", answer.lower().translate(_WITHOUT_PUNCTUATION)).split())


def exact_match(right: str, said: str) -> float:
    """1 where both are the same once they are normalised."""
    return float(normalised(right) == normalised(said))


def word_f1(right: str, said: str) -> float:
    """F1 of the words that both share; where one is empty, whether both are."""
    own, other = normalised(right).split(), normalised(said).split()
    if not own or not other:
        return float(own == other)
    shared = sum((Counter(own) & Counter(other)).values())
    if not shared:
        return 0.0
    precision, recall = shared / len(other), shared / len(own)
    return 2 * precision * recall / (precision + recall)


class OfAnswers(Metric):
    """A share of questions, higher is better."""

    higher_is_better: ClassVar[bool] = True
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    unit: ClassVar[Unit] = "share"

    @staticmethod
    @abstractmethod
    def of_pair(right: str, said: str) -> float:
        """Of one right answer and what was said."""

    @classmethod
    def per_example(cls, labels: Sequence[Any], predictions: Sequence[Any]) -> NDArray[np.float64] | None:
        """Of the answer that fits best; a question without one is answered right by the empty text."""
        if not all(isinstance(right, Sequence) and not isinstance(right, str) for right in labels):
            return None
        values = []
        for right, said in zip(labels, predictions, strict=True):
            known = [text for text in right if normalised(text)] or [""]
            values.append(max(cls.of_pair(text, said or "") for text in known))
        return np.asarray(values, dtype=np.float64)


@METRICS.register("squad_f1")
class SquadF1(OfAnswers):
    """F1 of the words shared with the best right answer, averaged over the questions, as in SQuAD 2.0."""

    @staticmethod
    def of_pair(right: str, said: str) -> float:
        """F1 of their words."""
        return word_f1(right, said)


@METRICS.register("squad_exact_match")
class SquadExactMatch(OfAnswers):
    """Share of questions whose answer is right but for articles, punctuation and capitals, as in SQuAD 2.0."""

    @staticmethod
    def of_pair(right: str, said: str) -> float:
        """Whether they are the same."""
        return exact_match(right, said)

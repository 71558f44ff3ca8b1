"""Exact match and F1 of Chinese answers, as CMRC 2018's script has them.

Cui et al. 2019, https://arxiv.org/abs/1810.07366; the script is cmrc2018_evaluate.py in
https://github.com/ymcui/cmrc2018. Its nltk splits the other words; here it is told that a piece is one sentence,
because nltk's finder of sentences is a further download.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import Any

import numpy as np
from numpy.typing import NDArray

from peftlab.core.metric import METRICS
from peftlab.core.words import has_signs
from peftlab.metrics.answers import OfAnswers

MARKS = "-:_*^/\\~`+=，。：？！“”；’《》·、「」（）－～『』"
"""That the script leaves out; its "……" never is, because it looks at one character at a time."""
_WITHOUT_MARKS = str.maketrans("", "", MARKS)
_PIECES = re.compile("[\u4e00-\u9fa5]|[^\u4e00-\u9fa5]+")


def segments(answer: str) -> list[str]:
    """Chinese characters and other words, without marks, in small letters."""
    from nltk import word_tokenize

    found: list[str] = []
    for piece in _PIECES.findall(answer.lower().strip().translate(_WITHOUT_MARKS)):
        found += [piece] if "\u4e00" <= piece[0] <= "\u9fa5" else word_tokenize(piece, preserve_line=True)
    return found


def longest_shared_run(right: Sequence[str], said: Sequence[str]) -> int:
    """How many segments the longest run has that is in both."""
    return SequenceMatcher(None, right, said, autojunk=False).find_longest_match().size


class _OfChineseAnswers(OfAnswers):
    @classmethod
    def per_example(cls, labels: Sequence[Any], predictions: Sequence[Any]) -> NDArray[np.float64] | None:
        """As of other answers; None where no right answer holds Chinese characters."""
        answers = (text for right in labels if not isinstance(right, str) for text in right)
        return super().per_example(labels, predictions) if any(map(has_signs, answers)) else None


@METRICS.register("cmrc_f1")
class CmrcF1(_OfChineseAnswers):
    """F1 of the longest run of characters shared with the best right answer, as in CMRC 2018; for Chinese answers."""

    @staticmethod
    def of_pair(right: str, said: str) -> float:
        """F1 by their longest shared run."""
        own, other = segments(right), segments(said)
        if not own or not other:
            return float(own == other)
        shared = longest_shared_run(own, other)
        return 2 * shared / (len(own) + len(other))


@METRICS.register("cmrc_exact_match")
class CmrcExactMatch(_OfChineseAnswers):
    """Share of questions whose answer is right but for marks and capitals, as in CMRC 2018; for Chinese answers."""

    @staticmethod
    def of_pair(right: str, said: str) -> float:
        """Whether they are the same."""
        own, other = (each.lower().strip().translate(_WITHOUT_MARKS) for each in (right, said))
        return float(own == other)

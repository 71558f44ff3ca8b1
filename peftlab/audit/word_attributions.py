"""Words and what they add to a score: from an explanation's tokens, and curves of deleting and inserting them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from peftlab.core.audit import AttributedWord
from peftlab.core.words import has_signs

if TYPE_CHECKING:
    from peftlab.inference.explanation.attributions import Explanation


def words_of(explanation: Explanation, special: Collection[str]) -> list[AttributedWord]:
    """The tokens between two blanks together, those of the tokenizer's own left out; Chinese signs by themselves."""
    words: list[AttributedWord] = []
    tokens = zip(explanation.tokens, explanation.after_blank, explanation.attributions, strict=True)
    for token, after_blank, value in tokens:
        if token in special:
            continue
        if words and not after_blank and not has_signs(token) and not has_signs(words[-1].text):
            last = words[-1]
            words[-1] = AttributedWord(last.text + token, last.after_blank, last.value + value)
        else:
            words.append(AttributedWord(token, after_blank, value))
    return words


def text_of(words: Sequence[AttributedWord], kept: Collection[int]) -> str:
    """The text of some of the words, by position, in the order of the text."""
    return "".join((" " if word.after_blank else "") + word.text for at, word in enumerate(words) if at in kept).strip()


def curve_texts(words: Sequence[AttributedWord], order: Sequence[int], points: int) -> tuple[list[str], list[str]]:
    """A text with more and more of its words deleted, and one with more and more inserted, in some order.

    Args:
        words: Of the text.
        order: Positions; the first is deleted and inserted first.
        points: How many texts each curve has, from one changed word share to all (share = point / points).
    """
    deleted, inserted = [], []
    for point in range(1, points + 1):
        first = set(order[: max(round(len(words) * point / points), 1)])
        deleted.append(text_of(words, set(range(len(words))) - first))
        inserted.append(text_of(words, first))
    return deleted, inserted


def rank_correlation(one: Sequence[AttributedWord], other: Sequence[AttributedWord]) -> float | None:
    """Spearman's correlation of the values of the words that two explanations share, each once.

    None: they share fewer than four words, or all values of one are alike.
    """
    from scipy.stats import rankdata

    first, second = ({word.text: word.value for word in words} for words in (one, other))
    shared = [word for word in first if word in second]
    if len(shared) < 4:
        return None
    ranks: list[NDArray[np.float64]] = [rankdata([each[word] for word in shared]) for each in (first, second)]
    if min(each.std() for each in ranks) == 0:
        return None
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])

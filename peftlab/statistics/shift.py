"""Whether two tables are of the same kind: tests of numbers, of answers, and of single words."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
MOST_EXACT = 10_000
FEWEST_TEXTS = 5
"""Of both tables together, that have a word which is tested."""


@dataclass(frozen=True)
class WordShift:
    """A word that one table has in more of its texts than the other.

    Args:
        word: In lower case.
        before: Share of the first table's texts that have it.
        after: Share of the second's.
        p_value: Fisher's exact test, corrected for all words that were tested (Bonferroni).
    """

    word: str
    before: float
    after: float
    p_value: float


def distributions_differ(before: Floats, after: Floats) -> float:
    """P-value that two samples of numbers have one distribution (Kolmogorov and Smirnov, two-sided).

    It is exact or careful: with equal values the test rejects less often than it says.
    """
    from scipy.stats import ks_2samp

    if not (len(before) and len(after)):
        return 1.0
    # The exact calculation of large samples runs over, with a warning, and says the same.
    method = "exact" if len(before) * len(after) <= MOST_EXACT else "asymp"
    return float(ks_2samp(before, after, method=method).pvalue)


def counts_differ(
    before: Sequence[Hashable], after: Sequence[Hashable], generator: np.random.Generator, draws: int = 4999
) -> tuple[float, float]:
    """The total variation distance of two samples of answers, and the p-value that they have one distribution.

    The p-value is a permutation test's of the chi-squared statistic: it holds for rare answers too.

    Args:
        before: One answer a row.
        after: The same of the other table.
        generator: Draws.
        draws: How many permutations; the smallest p-value is 1 / (draws + 1).
    """
    if not (len(before) and len(after)):
        return 0.0, 1.0
    kinds = {kind: at for at, kind in enumerate(dict.fromkeys([*before, *after]))}
    first = np.bincount([kinds[each] for each in before], minlength=len(kinds))
    total = first + np.bincount([kinds[each] for each in after], minlength=len(kinds))
    second = total - first
    distance = float(np.abs(first / len(before) - second / len(after)).sum() / 2)
    expected = total * (len(before) / total.sum())

    def statistic(counts: NDArray[np.int64]) -> Floats:
        return np.asarray(((counts - expected) ** 2 / expected).sum(axis=-1))

    drawn = generator.multivariate_hypergeometric(total, len(before), size=draws, method="marginals")
    above = int((statistic(drawn) >= statistic(first) - 1e-9).sum())
    return distance, (1 + above) / (draws + 1)


def shifted_words(before: Sequence[set[str]], after: Sequence[set[str]]) -> list[WordShift]:
    """All words that are in enough texts to be tested, those whose shares differ most surely first.

    Args:
        before: The words of each text.
        after: The same of the other table.
    """
    from collections import Counter

    from scipy.stats import fisher_exact

    first, second = (Counter(word for words in texts for word in words) for texts in (before, after))
    tested = [word for word in dict.fromkeys([*first, *second]) if first[word] + second[word] >= FEWEST_TEXTS]
    found = []
    for word in tested:
        table = [[first[word], len(before) - first[word]], [second[word], len(after) - second[word]]]
        p_value = min(float(fisher_exact(table).pvalue) * len(tested), 1.0)
        found.append(WordShift(word, first[word] / len(before), second[word] / len(after), p_value))
    return sorted(found, key=lambda each: (each.p_value, -abs(each.after - each.before), each.word))

"""Comparisons of all pairs of methods on the same examples, for hundreds of methods at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from peftlab.statistics.crossed import Floats, VarianceOfMean, at_least, mean_squares, variance_of_mean
from peftlab.statistics.moderation import moderate
from peftlab.statistics.one_seed import SeedPrior

# Smaller ones are given as this: the quantiles behind them overflow.
SMALLEST_P = 1e-15
MOST_VALUES = 24
STEPS = 60
TOLERANCE = 1e-7


@dataclass(frozen=True)
class PairTable:
    """How far methods are apart: row's mean minus column's. All tables are methods × methods.

    Args:
        difference: Of the means.
        low: Lower end of the difference's interval.
        high: Upper end of the difference's interval.
        p_value: Two-sided; at most 1 − level exactly where the interval leaves 0 out. 1 on the diagonal.
        seed_share: Share of the difference's squared standard error that further seeds would cut, 0 to 1.
    """

    difference: Floats
    low: Floats
    high: Floats
    p_value: Floats
    seed_share: Floats


def compare_all(scores: Sequence[Floats], level: float = 0.95, *, prior: SeedPrior | None = None) -> PairTable:
    """Compare every method with every other one on the same examples.

    The squared standard error of a difference has two parts (``crossed.py``). The examples' part is that of the
    differences on the same examples. The seeds' part is v_a / (n·S_a) + v_b / (n·S_b): v is the mean square of a
    method's seeds, moderated by those of the others (``moderation.py``), without which three seeds have two degrees of
    freedom and hardly a difference survives a correction for many pairs. The difference over its standard error is
    held against Cochran's quantile: Student's t of the seeds' and of the examples' degrees of freedom, weighted by the
    two parts (Cochran and Cox, Experimental Designs, 1957, section 4.14).

    Limits, from ``benchmarks/statistics/all_pairs.md``: apart from chance, false alarms stay within 5 % of all equal
    pairs, and within 5 % of comparisons after Holm's correction. Where the seeds of a few methods vary much more than
    those of the rest, the pairs of just these are above it: with three seeds and one such method among twelve, before
    the correction, 6 to 10 % of its pairs. A seed is taken to mean nothing in common to two methods. If the same seed
    helps both, the test is too careful; if it helps one and harms the other, it finds too much, but among M methods the
    mean correlation cannot be below −1 / (M − 1). Without a prior, methods with one seed are tested over the examples
    only where no others tell how far seeds lie apart, and **too many differences are found**.

    Examples on which two means are the same say nothing of which method is better (McNemar, Psychometrika 12, 1947):
    the examples' degrees of freedom are the number of the others, less one. Nor is a p-value ever below that of the
    sign test where all of these others speak for the same method: of a handful, variances tell too little.

    Args:
        scores: Seeds × examples of each method; the same examples in the same order, any number of seeds.
        level: Coverage of the differences' intervals.
        prior: What is taken for granted of the seeds of a method that has one alone.

    Raises:
        ValueError: The numbers of examples differ or are below two, there is no seed, or scores are not finite.
    """
    size = len(scores)
    if len({np.shape(method)[-1:] for method in scores}) > 1 or any(np.ndim(method) != 2 for method in scores):
        raise ValueError("Every method must have seeds × examples of the same examples.")
    if size < 2:
        return PairTable(*(np.full((size, size), value) for value in (0.0, 0.0, 0.0, 1.0, 0.0)))
    parts = _variance_of_differences(scores, prior)
    return _table(parts, size, np.shape(scores[0])[1], level)


def compare_seed_by_seed(scores: Sequence[Floats], level: float = 0.95) -> PairTable:
    """As ``compare_all``, of methods whose equal seeds share what they have drawn, such as their training rows.

    The same draw helps or harms all of them, and is in no difference of two methods with one seed. So each pair's
    variance is that of its differences, seeds × examples (``crossed.py``), and none is moderated by others'.

    Args:
        scores: Seeds × examples of each method; the same seeds and examples in the same order.
        level: Coverage of the differences' intervals.

    Raises:
        ValueError: Shapes differ, there are fewer than two seeds or examples, or scores are not finite.
    """
    size = len(scores)
    if len({np.shape(method) for method in scores}) > 1 or any(np.ndim(method) != 2 for method in scores):
        raise ValueError("Every method must have seeds × examples of the same seeds and examples.")
    if size < 2:
        return PairTable(*(np.full((size, size), value) for value in (0.0, 0.0, 0.0, 1.0, 0.0)))
    seeds, examples = np.shape(scores[0])
    if seeds < 2:
        raise ValueError("Two seeds are needed at least.")
    together = np.array(scores)
    # One method at a time: the differences of all pairs at once would not fit into memory for hundreds of methods.
    found = [variance_of_mean(together[at] - together[at + 1 :]) for at in range(size - 1)]
    differing = _differing(together.mean(axis=1))[np.triu_indices(size, 1)]
    parts = VarianceOfMean(
        np.concatenate([each.mean for each in found]),
        np.concatenate([each.seeds for each in found]),
        np.concatenate([each.examples for each in found]),
        np.full(len(differing), seeds - 1.0),
        np.maximum(differing - 1, 1),
    )
    return _table(parts, size, examples, level)


def judge(parts: VarianceOfMean, examples: int, level: float = 0.95) -> tuple[Floats, Floats, Floats]:
    """Ends of the intervals of some differences, and their p-values: see ``compare_all``.

    Args:
        parts: The differences and their variances.
        examples: How many examples there are.
        level: Coverage of the intervals.
    """
    half = _quantile(parts, np.asarray(1 - level)) * np.sqrt(parts.total)
    by_signs = _by_signs(parts)
    # An interval never leaves out what the signs alone do not.
    half = np.where(by_signs > 1 - level, np.maximum(half, np.abs(parts.mean)), half)
    return parts.mean - half, parts.mean + half, np.maximum(_p_values(parts, examples), by_signs)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values so that the chance of any false alarm among them stays at the level they are held against.

    Holm, A simple sequentially rejective multiple test procedure (Scandinavian Journal of Statistics 6, 1979).

    Args:
        p_values: In any order.

    Returns:
        The adjusted p-values in the same order.

    Raises:
        ValueError: A p-value is not between 0 and 1.
    """
    values = np.asarray(p_values, dtype=np.float64)
    if not ((values >= 0) & (values <= 1)).all():
        raise ValueError("A p-value is not between 0 and 1.")
    order = np.argsort(values, kind="stable")
    steps = values[order] * np.arange(len(values), 0, -1)
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return [float(value) for value in adjusted]


def _table(parts: VarianceOfMean, size: int, examples: int, level: float) -> PairTable:
    """The table of all pairs, from those above the diagonal in their order."""
    low, high, p_values = judge(parts, examples, level)
    difference, low, high = (_square(values, size, 0) for values in (parts.mean, low, high))
    p_value, share = _square(p_values, size, 1), _square(parts.seed_share, size, 0)
    p_value = np.minimum(p_value, p_value.T)
    return PairTable(difference - difference.T, low - high.T, high - low.T, p_value, share + share.T)


def _square(values: Floats, size: int, elsewhere: float) -> Floats:
    """Put the values of all pairs above the diagonal."""
    table = np.full((size, size), elsewhere, dtype=np.float64)
    table[np.triu_indices(size, 1)] = values
    return table


def _variance_of_differences(scores: Sequence[Floats], prior: SeedPrior | None) -> VarianceOfMean:
    """The parts of all pairs of methods, in the order of ``numpy.triu_indices``."""
    upper = np.triu_indices(len(scores), 1)
    first, second = upper
    examples = np.shape(scores[0])[1]
    squares = [mean_squares(method) for method in scores]
    seeds = np.array([len(method) for method in scores])
    mean = np.array([method.mean for method in squares])
    moderated = moderate(np.array([method.seeds for method in squares]), seeds - 1)
    if prior is not None:
        moderated = moderated.with_stated(seeds == 1, examples * prior.deviation**2, prior.freedom)
    of_seeds = moderated.variance / (examples * seeds)
    of_interaction = np.array([method.interaction for method in squares]) / (examples * seeds)
    per_example = np.array([np.mean(method, axis=0) for method in scores])
    of_both = _squared_distances(per_example - mean[:, None])[upper] / (examples * (examples - 1))
    seeds_part, interaction = (each[first] + each[second] for each in (of_seeds, of_interaction))
    return VarianceOfMean(
        mean[first] - mean[second],
        seeds_part,
        at_least(np.maximum(of_both - interaction, 0), seeds_part, interaction),
        moderated.freedom_of_sums(first, second, 1 / seeds),
        np.maximum(_differing(per_example)[upper] - 1, 1),
    )


def _squared_distances(rows: Floats) -> Floats:
    """|a − b|² of all rows, as |a|² + |b|² − 2·a·b: a product of matrices, also for hundreds of methods."""
    lengths = (rows**2).sum(axis=1)
    squared = lengths[:, None] + lengths[None, :]
    distances = squared - 2 * (rows @ rows.T)
    # What is left of the subtraction of equal numbers is rounding, not variance.
    return np.asarray(np.where(distances > 1e-12 * squared, distances, 0))


def _differing(per_example: Floats) -> NDArray[np.int64]:
    """On how many examples the means of two methods differ."""
    values = np.unique(per_example)
    if len(values) > MOST_VALUES:
        return np.array([np.count_nonzero(method != per_example, axis=1) for method in per_example])
    # Right and wrong over a few seeds make a few means; equal ones are counted by a product of matrices.
    equal = np.zeros((len(per_example),) * 2, dtype=np.float64)
    for value in values:
        has = (per_example == value).astype(np.float32)
        equal += has @ has.T
    return np.asarray(per_example.shape[1] - np.rint(equal).astype(np.int64))


def _select(parts: VarianceOfMean, wanted: NDArray[np.bool_] | NDArray[np.intp]) -> VarianceOfMean:
    return VarianceOfMean(
        parts.mean[wanted],
        parts.seeds[wanted],
        parts.examples[wanted],
        np.asarray(parts.seeds_freedom)[wanted],
        np.asarray(parts.examples_freedom)[wanted],
    )


def _quantile(parts: VarianceOfMean, p_value: Floats) -> Floats:
    """Cochran's weighted quantile of a two-sided test."""
    from scipy.special import stdtrit

    share = parts.seed_share
    of_seeds, of_examples = (-stdtrit(f, p_value / 2) for f in (parts.seeds_freedom, parts.examples_freedom))
    return np.asarray(share * of_seeds + (1 - share) * of_examples)


def _by_signs(parts: VarianceOfMean) -> Floats:
    """The sign test's least p-value: that of so many differing examples of which all speak for the same method.

    Two right answers against two wrong ones are as often chance as not, and have no variance that would tell.
    """
    return np.asarray(np.exp2(-np.asarray(parts.examples_freedom, dtype=np.float64)))


def _p_values(parts: VarianceOfMean, examples: int) -> Floats:
    """The level at which an interval just touches zero.

    It lies between what the degrees of freedom of the seeds and those of the examples would give alone, and is found by
    the Illinois rule (Dowell and Jarratt, BIT 11, 1971) on the logarithm of p, for all pairs together.
    """
    from scipy.special import stdtr

    distance, error = np.abs(parts.mean), np.sqrt(parts.total)
    # Where every example differs, and all alike, nothing varies: the sign test.
    p_values = np.where(distance > 0, max(SMALLEST_P, 2.0 ** (1 - examples)), 1.0)
    open_pairs = (distance > 0) & (error > 0)
    parts = _select(parts, open_pairs)
    statistic = distance[open_pairs] / error[open_pairs]
    by_seeds, by_examples = (2 * stdtr(f, -statistic) for f in (parts.seeds_freedom, parts.examples_freedom))
    p_values[open_pairs] = _touching(parts, np.minimum(by_examples, by_seeds), np.maximum(by_examples, by_seeds))
    return p_values


def _touching(parts: VarianceOfMean, smallest: Floats, largest: Floats) -> Floats:
    """The p at which the half width is the distance, for each pair; ``smallest`` ≤ p ≤ ``largest``."""
    low = np.log(np.maximum(smallest, SMALLEST_P))
    high = np.log(np.clip(largest, SMALLEST_P, 1))
    at_low, at_high = _excess(parts, low), _excess(parts, high)
    found = np.where(at_low <= 0, low, high)
    active = np.flatnonzero((at_low > 0) & (at_high < 0))
    stayed = np.zeros(len(low), dtype=np.int8)
    for _ in range(STEPS):
        a, b = at_low[active], at_high[active]
        middle = low[active] + a / (a - b) * (high[active] - low[active])
        value = _excess(_select(parts, active), middle)
        found[active] = middle
        above = value > 0
        # An end that stays for the second time is given half its weight, so that both ends close in.
        at_high[active] = np.where(above, np.where(stayed[active] == 1, b / 2, b), value)
        at_low[active] = np.where(above, value, np.where(stayed[active] == -1, a / 2, a))
        low[active] = np.where(above, middle, low[active])
        high[active] = np.where(above, high[active], middle)
        stayed[active] = np.where(above, 1, -1)
        active = active[np.abs(value) > TOLERANCE * np.abs(parts.mean[active])]
        if not len(active):
            break
    return np.exp(found)


def _excess(parts: VarianceOfMean, log_p: Floats) -> Floats:
    """By how much the interval of level 1 − p reaches over zero."""
    return np.asarray(_quantile(parts, np.exp(log_p)) * np.sqrt(parts.total) - np.abs(parts.mean))

"""All pairs of many methods at once: the comparisons of :mod:`peftlab.statistics`, for hundreds of methods.

:func:`peftlab.statistics.pairs.compare_paired` takes two methods. Between 300 methods there are 45,000 pairs; here the
mean squares of all differences come from products of matrices, since the squared length of a difference is
|a|² + |b|² − 2·a·b. A test holds both to the same figures.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from peftlab.statistics.crossed import VarianceOfMean
from peftlab.statistics.pairs import difference_half_width

Floats = NDArray[np.float64]
SMALLEST_P = 1e-15
"""Smaller p-values are given as this one; a level of confidence closer to 1 is not a number of its own."""
LEVEL = 0.95
MOST_PATTERNS = 4
STEPS = 60
TOLERANCE = 1e-7


@dataclass(frozen=True)
class PairTable:
    """Differences of methods A (rows) and B (columns): mean of A minus mean of B, its interval, its p-value."""

    difference: Floats
    low: Floats
    high: Floats
    p_value: Floats


def compare_all_paired(a: Floats, b: Floats | None = None) -> PairTable:
    """Compare every method in A with every one in B.

    Args:
        a: Methods × seeds × examples.
        b: Methods × seeds × examples; the same seeds and examples. None: every method in A with every other one.

    Returns:
        Tables of methods in A × methods in B.
    """
    tables = _variance_of_differences(a, a if b is None else b)
    wanted = np.ones(tables.mean.shape, dtype=bool)
    if b is None:
        wanted = np.triu(wanted, 1)
    parts = _select(tables, wanted)
    half = difference_half_width(parts, LEVEL)
    found = (parts.mean, parts.mean - half, parts.mean + half, _p_values(parts, a.shape[2]))
    difference, low, high, p_value = (
        _filled(values, wanted, at) for values, at in zip(found, (0, 0, 0, 1), strict=True)
    )
    if b is None:
        difference, low, high = difference - difference.T, low - high.T, high - low.T
        p_value = np.minimum(p_value, p_value.T)
    return PairTable(difference, low, high, p_value)


def _select(parts: VarianceOfMean, wanted: NDArray[np.bool_] | NDArray[np.int64]) -> VarianceOfMean:
    return VarianceOfMean(
        parts.mean[wanted],
        parts.seeds[wanted],
        parts.examples[wanted],
        parts.seeds_freedom,
        np.asarray(parts.examples_freedom)[wanted],
    )


def _filled(values: Floats, wanted: NDArray[np.bool_], elsewhere: float) -> Floats:
    table = np.full(wanted.shape, elsewhere, dtype=np.float64)
    table[wanted] = values
    return table


def _variance_of_differences(a: Floats, b: Floats) -> VarianceOfMean:
    seeds, examples = a.shape[1:]
    mean = a.mean(axis=(1, 2))[:, None] - b.mean(axis=(1, 2))[None, :]
    informative = _informative(a, b)
    a = a - a.mean(axis=(1, 2), keepdims=True)
    b = b - b.mean(axis=(1, 2), keepdims=True)
    square_examples = seeds * _squared_distances(a.mean(axis=1), b.mean(axis=1)) / (examples - 1)
    if seeds == 1:
        return VarianceOfMean(mean, np.zeros_like(mean), square_examples / examples, 0, informative)
    sum_seeds = examples * _squared_distances(a.mean(axis=2), b.mean(axis=2))
    square_seeds = sum_seeds / (seeds - 1)
    everything = _squared_distances(a.reshape(len(a), -1), b.reshape(len(b), -1))
    sum_interaction = everything - sum_seeds - square_examples * (examples - 1)
    square_interaction = np.maximum(sum_interaction, 0) / ((seeds - 1) * (examples - 1))
    cells = seeds * examples
    of_both = np.maximum(square_examples - square_interaction, 0) / cells
    return VarianceOfMean(mean, square_seeds / cells, of_both, seeds - 1, informative)


def _squared_distances(a: Floats, b: Floats) -> Floats:
    squared = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1)[None, :]
    distances = squared - 2 * (a @ b.T)
    # What is left of the subtraction of equal numbers is rounding, not variance.
    return np.asarray(np.where(distances > 1e-12 * squared, distances, 0))


def _informative(a: Floats, b: Floats) -> NDArray[np.int64]:
    """Degrees of freedom of the examples: those on which the methods differ at all, less one."""
    seeds, examples = a.shape[1:]
    if seeds <= MOST_PATTERNS and np.isin(a, (0, 1)).all() and np.isin(b, (0, 1)).all():
        # Right and wrong over a few seeds make a few patterns; equal ones are counted by a product of matrices.
        weights = 2 ** np.arange(seeds)
        of_a, of_b = np.einsum("msn,s->mn", a, weights), np.einsum("msn,s->mn", b, weights)
        equal = np.zeros((len(a), len(b)), dtype=np.float64)
        for pattern in np.union1d(of_a, of_b):
            equal += (of_a == pattern).astype(np.float32) @ (of_b == pattern).astype(np.float32).T
        differing = examples - np.rint(equal).astype(np.int64)
    else:
        differing = np.array([np.count_nonzero((method != b).any(axis=1), axis=1) for method in a])
    return np.asarray(np.maximum(differing - 1, 1))


def _p_values(parts: VarianceOfMean, examples: int) -> Floats:
    """The level at which an interval just touches zero.

    It lies between what the degrees of freedom of the seeds and those of the examples would give alone, and is found by
    the Illinois rule (Dowell and Jarratt, BIT 11, 1971) on the logarithm of p, for all pairs together.
    """
    from scipy.special import stdtr

    distance, error = np.abs(parts.mean), np.sqrt(parts.total)
    # Where every example differs, and all alike, nothing varies: the sign test.
    p_values = np.where(distance > 0, np.ldexp(1.0, 1 - examples), 1.0)
    open_pairs = (distance > 0) & (error > 0)
    statistic = distance[open_pairs] / error[open_pairs]
    by_examples = 2 * stdtr(np.asarray(parts.examples_freedom)[open_pairs], -statistic)
    if parts.seeds_freedom == 0:
        p_values[open_pairs] = by_examples
        return p_values
    by_seeds = 2 * stdtr(parts.seeds_freedom, -statistic)
    p_values[open_pairs] = _touching(
        _select(parts, open_pairs), np.minimum(by_examples, by_seeds), np.maximum(by_examples, by_seeds)
    )
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
    return np.asarray(difference_half_width(parts, cast("float", -np.expm1(log_p))) - np.abs(parts.mean))

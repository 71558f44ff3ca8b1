"""Intervals of scores and tests between methods, with the strongest procedure that the records allow."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from peftlab.core.metric import may_be_negative, possible_difference, within_range
from peftlab.report.entry import Entry
from peftlab.report.wording import is_bounded, point_size
from peftlab.statistics.crossed import Floats, VarianceOfMean
from peftlab.statistics.intervals import differ, mean_interval, seeds_interval
from peftlab.statistics.moderation import KNOWN
from peftlab.statistics.one_seed import SeedPrior
from peftlab.statistics.pairs import compare_all, compare_seed_by_seed, holm, judge
from peftlab.statistics.proportions import variance_of_proportions, wilson_interval


class Basis(StrEnum):
    """What an interval accounts for."""

    SEEDS_AND_EXAMPLES = "seeds and examples"
    EXAMPLES = "examples only"
    SEEDS = "seeds only"
    NOTHING = "nothing"


@dataclass(frozen=True)
class ScoreInterval:
    """A mean score with its 95 % interval; the ends are None where the records do not allow one."""

    mean: float
    low: float | None = None
    high: float | None = None
    standard_error: float | None = None
    basis: Basis = Basis.NOTHING
    seed_share: float | None = None
    example_share: float | None = None


@dataclass
class PairEvidence:
    """Differences between all methods, in their order.

    Args:
        difference: Row's mean minus column's.
        low: Of the 95 % interval of the difference; nan where there is none.
        high: Of the same.
        p_value: nan where the records allow no test.
        seed_share: Share of the difference's uncertainty that further seeds would cut; nan where seeds alone are
            compared, or nothing is.
        adjusted: Holm's, over all pairs of the comparison.
    """

    difference: Floats
    low: Floats
    high: Floats
    p_value: Floats
    seed_share: Floats
    adjusted: Floats

    @property
    def tested(self) -> int:
        """How many pairs the correction is for."""
        return int(np.isfinite(np.triu(self.adjusted, 1)[np.triu_indices(len(self.adjusted), 1)]).sum())


class Measured(Protocol):
    """The part of a method's result that tests need."""

    @property
    def entries(self) -> Sequence[Entry]:
        """One run per seed."""

    @property
    def scores(self) -> Sequence[float]:
        """The metric of each run."""

    @property
    def interval(self) -> ScoreInterval:
        """Of the mean."""

    @property
    def per_example(self) -> NDArray[np.float64] | None:
        """Seeds × examples."""

    @property
    def seeds(self) -> list[int]:
        """Of the runs."""


def score_interval(
    scores: Sequence[float], per_example: Floats | None, metric: str, examples: int | None
) -> ScoreInterval:
    """The interval of a method's mean.

    Args:
        scores: The metric of each seed.
        per_example: Seeds × examples; None where the metric or the records have no such values.
        metric: Its name.
        examples: How many there are in the split.
    """
    mean = float(np.mean(scores))
    if per_example is not None:
        found = mean_interval(per_example, changes=may_be_negative(metric))
        basis = Basis.SEEDS_AND_EXAMPLES if len(scores) > 1 else Basis.EXAMPLES
    elif len(scores) > 1:
        if not differ(scores):  # equal scores of two seeds do not say how far a third would lie
            return ScoreInterval(mean, basis=Basis.SEEDS)
        found, basis = seeds_interval(scores), Basis.SEEDS
    else:
        right = _right_answers(scores[0], metric, examples)
        if right is None or not examples:
            return ScoreInterval(mean)
        low, high = wilson_interval(right, examples)
        error = math.sqrt(mean * (1 - mean) / examples)
        return ScoreInterval(mean, low, high, error, Basis.EXAMPLES)
    low, high = within_range(metric, found.low, found.high)
    return ScoreInterval(mean, low, high, found.standard_error, basis, found.seed_share, found.example_share)


def _right_answers(score: float, metric: str, examples: int | None) -> int | None:
    """How many answers were right, where an accuracy says so."""
    if metric != "accuracy" or not examples:
        return None
    right = round(score * examples)
    return right if abs(score * examples - right) < 1e-6 * examples else None


def compare_methods(methods: Sequence[Measured], metric: str) -> PairEvidence:
    """Test every method against every other one.

    Methods with predictions are compared on the same examples, all of them together, since what the seeds of one say
    helps to judge the others; or seed by seed, where each seed has drawn training rows, the same for all methods.
    Methods with several seeds but without values per example are compared by their seeds; single accuracies as
    proportions. Where a method has one seed, its seeds' spread is what ``SeedPrior`` states; with a
    metric that has no unit for that, its pairs are not tested.

    Args:
        methods: In the order that the tables get.
        metric: That they are ranked by.
    """
    size, prior = len(methods), seed_prior(metric)
    means = np.array([method.interval.mean for method in methods])
    tables = {name: np.full((size, size), np.nan) for name in ("low", "high", "p_value", "seed_share")}
    evidence = PairEvidence(means[:, None] - means[None, :], **tables, adjusted=np.full((size, size), np.nan))
    with_examples = [
        at
        for at, method in enumerate(methods)
        if method.per_example is not None and (prior is not None or len(method.scores) > 1)
    ]
    scores = [per_example for at in with_examples if (per_example := methods[at].per_example) is not None]
    by_seed = share_draws([methods[at].entries for at in with_examples])
    table = compare_seed_by_seed(scores) if by_seed else compare_all(scores, prior=prior)
    for name in ("difference", *tables):
        getattr(evidence, name)[np.ix_(with_examples, with_examples)] = getattr(table, name)
    for a, b in itertools.combinations(range(size), 2):
        if methods[a].per_example is None or methods[b].per_example is None:
            _compare_without_examples(evidence, a, b, methods[a], methods[b], prior)
    widest = possible_difference(metric)
    evidence.low, evidence.high = (np.clip(ends, -widest, widest) for ends in (evidence.low, evidence.high))
    _adjust(evidence)
    return evidence


def share_draws(runs: Sequence[Sequence[Entry]]) -> bool:
    """Whether methods have the same seeds, several of them, each of which has drawn the same training rows for all."""
    draws = {tuple((entry.seed, entry.draw_seed) for entry in entries) for entries in runs}
    if len(draws) != 1:
        return False
    (own,) = draws
    return len(own) > 1 and all(seed is not None for _, seed in own)


def seed_prior(metric: str) -> SeedPrior | None:
    """What is taken for granted of one seed's spread: a point of the metric; None where it has no such unit."""
    return SeedPrior(point_size(metric)) if is_bounded(metric) else None


def _compare_without_examples(
    evidence: PairEvidence, a: int, b: int, first: Measured, second: Measured, prior: SeedPrior | None
) -> None:
    if len(first.scores) > 1 and len(second.scores) > 1:
        low, high, p_value = _by_seeds(first, second)
    elif prior is not None and first.interval.low is not None and second.interval.low is not None:
        low, high, p_value = _two_proportions(first, second, prior)
    else:
        return
    evidence.low[a, b], evidence.high[a, b] = low, high
    evidence.low[b, a], evidence.high[b, a] = -high, -low
    evidence.p_value[a, b] = evidence.p_value[b, a] = p_value


def _by_seeds(first: Measured, second: Measured) -> tuple[float, float, float]:
    """Student's paired t test where both have the same seeds (Biometrika 6, 1908), else Welch's (Biometrika 34, 1947).

    Pairs that are all equally far apart would be certain of any difference: shares of a hundred examples often are,
    with two seeds. Then Welch's is more careful. Nothing is tested where no seed lies apart from another at all.
    """
    from scipy.special import stdtr, stdtrit

    one, other = (dict(zip(method.seeds, method.scores, strict=True)) for method in (first, second))
    pairs = [score - other[seed] for seed, score in one.items()] if one.keys() == other.keys() else []
    samples = [pairs] if differ(pairs) else [list(one.values()), list(other.values())]
    parts = [float(np.var(own, ddof=1)) / len(own) if differ(own) else 0.0 for own in samples]
    if not any(parts):
        is_same = first.interval.mean == second.interval.mean
        return math.nan, math.nan, 1.0 if is_same else math.nan
    freedom = sum(parts) ** 2 / sum(part**2 / (len(own) - 1) for part, own in zip(parts, samples, strict=True))
    difference, error = first.interval.mean - second.interval.mean, math.sqrt(sum(parts))
    half = float(stdtrit(freedom, 0.975)) * error
    return difference - half, difference + half, float(2 * stdtr(freedom, -abs(difference) / error))


def _two_proportions(first: Measured, second: Measured, prior: SeedPrior) -> tuple[float, float, float]:
    """Two accuracies on equally many examples, of one seed each: see ``variance_of_proportions``, and the prior."""
    examples = _examples(first)
    if examples is None or examples != _examples(second):
        return math.nan, math.nan, math.nan
    a, b = first.interval.mean, second.interval.mean
    of_examples = variance_of_proportions(round(a * examples), round(b * examples), examples)
    parts = VarianceOfMean(
        np.array([a - b]),
        np.array([2 * prior.deviation**2]),
        np.array([of_examples]),
        np.array([prior.freedom]),
        np.array([KNOWN], dtype=np.int64),
    )
    low, high, p_value = (float(values[0]) for values in judge(parts, examples))
    return low, high, p_value


def _examples(method: Measured) -> int | None:
    entry = method.entries[0]
    if len(method.scores) != 1:
        return None
    return next((entry.rows.get(split) for split in ("test", "validation") if entry.scores.get(split)), None)


def _adjust(evidence: PairEvidence) -> None:
    """Holm's correction over every pair that was tested."""
    upper = np.triu(np.isfinite(evidence.p_value), 1)
    adjusted = np.array(holm(np.clip(evidence.p_value[upper], 0, 1).tolist()))
    evidence.adjusted[upper] = adjusted
    evidence.adjusted.T[upper] = adjusted
    np.fill_diagonal(evidence.adjusted, np.nan)

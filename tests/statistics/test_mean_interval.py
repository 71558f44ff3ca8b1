"""The interval of a mean against analyses of variance done another way, and where there is little to go by."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from peftlab.statistics.intervals import differ, mean_interval, seeds_interval
from peftlab.statistics.proportions import wilson_interval

TABLES = st.tuples(st.integers(2, 6), st.integers(2, 30)).flatmap(
    lambda shape: arrays(np.float64, shape, elements=st.floats(-100, 100, width=32))
)


def by_covariances(scores):
    """The same two parts by another road: variances and covariances of the seeds' scores."""
    seeds, examples = scores.shape
    covariances = np.cov(scores)
    between = (covariances.sum() - np.trace(covariances)) / (seeds * (seeds - 1))
    return scores.mean(axis=1).var(ddof=1) / seeds, max(0.0, between) / examples


@settings(deadline=None)
@given(TABLES)
def test_the_parts_of_the_variance(scores) -> None:
    of_seeds, of_examples = by_covariances(scores)
    interval = mean_interval(scores)
    total = of_seeds + of_examples
    if total < 1e-9 < interval.standard_error**2:  # the interaction alone is left
        return
    assert interval.standard_error**2 == pytest.approx(total, rel=1e-6, abs=1e-9)
    assert interval.low <= interval.mean <= interval.high
    assert min(scores.shape) - 1 <= interval.degrees_of_freedom * (1 + 1e-9)
    assert interval.degrees_of_freedom <= (max(scores.shape) - 1) * (1 + 1e-9)
    if total > 1e-6:
        assert interval.seed_share == pytest.approx(of_seeds / total, abs=1e-3)
        assert interval.seed_share + interval.example_share == pytest.approx(1)


def test_two_seeds_of_one_mean_are_not_certain() -> None:
    """They err on examples of their own: so do further ones, and on further examples."""
    scores = np.zeros((2, 60))
    scores[0, :30] = scores[1, 15:45] = 1
    interval = mean_interval(scores)
    assert interval.standard_error == pytest.approx(0.5 / np.sqrt(120), rel=0.02)  # of as many single answers
    assert interval.low < 0.42
    assert interval.high > 0.58


def test_only_the_seeds_vary() -> None:
    per_seed = np.array([0.2, 0.5, 0.9])
    interval = mean_interval(np.repeat(per_seed[:, None], 50, axis=1))
    expected = stats.t.interval(0.95, 2, per_seed.mean(), stats.sem(per_seed))
    assert (interval.low, interval.high) == pytest.approx(expected)
    assert (interval.seed_share, interval.degrees_of_freedom) == pytest.approx((1, 2))


def test_only_the_examples_vary() -> None:
    values = np.random.default_rng(0).normal(size=40)
    expected = stats.t.interval(0.9, 39, values.mean(), stats.sem(values))
    for seeds in (1, 4):
        interval = mean_interval(np.tile(values, (seeds, 1)), level=0.9)
        assert (interval.low, interval.high) == pytest.approx(expected)
        assert interval.degrees_of_freedom == pytest.approx(39)
    assert interval.seed_share == pytest.approx(0, abs=1e-12)
    assert mean_interval(values[None]).seed_share is None


@pytest.mark.parametrize("seeds", [1, 3])
def test_every_answer_right(seeds) -> None:
    interval = mean_interval(np.ones((seeds, 300)))
    assert (interval.low, interval.high) == wilson_interval(300, 300)
    assert interval.low < 0.99
    assert interval.seed_share is None


def test_zeros_and_ones_stay_between_zero_and_one() -> None:
    scores = np.ones((3, 100))
    scores[0, 0] = 0
    found = mean_interval(scores)
    assert 0.9 < found.low < found.mean < found.high < 1
    assert found.mean - found.low > 2 * (found.high - found.mean)
    assert mean_interval(scores * 2).high > 2
    scores[:, :20] = 0  # with so many wrong ones both halves are equal
    assert mean_interval(scores).high - 0.8 == pytest.approx(0.8 - mean_interval(scores).low)


@pytest.mark.parametrize("wrong", [1, 5, 14])
def test_seeds_that_say_the_same_are_worth_their_examples(wrong: int) -> None:
    """Wilson's interval of the examples, but for Student's quantile and the degree of freedom of the variance."""
    scores = np.ones((3, 400))
    scores[:, :wrong] = 0
    found = mean_interval(scores)
    assert (found.low, found.high) == pytest.approx(wilson_interval(400 - wrong, 400), abs=3e-4)
    few = mean_interval(1 - scores)
    assert (few.low, few.high) == pytest.approx((1 - found.high, 1 - found.low))


def test_changes_may_have_either_sign() -> None:
    """Of two methods, of which one is never worse in a sample: its interval is not cut where shares begin."""
    changes = np.zeros((1, 200))
    changes[0, :2] = 1
    found = mean_interval(changes, changes=True)
    expected = stats.t.interval(0.95, 199, changes.mean(), stats.sem(changes[0]))
    assert found.low < 0
    assert (found.low, found.high) == pytest.approx(expected)
    assert mean_interval(np.tile(changes, (2, 1))).low > 0
    share = mean_interval(changes)
    assert (share.low, share.high) == wilson_interval(2, 200)
    same = mean_interval(np.zeros((2, 200)), changes=True)
    assert same.low == pytest.approx(-same.high)
    assert 0 < same.high < 0.05
    assert mean_interval(-np.ones((1, 30)), changes=True).low == -1
    assert mean_interval(np.full((1, 30), 0.25), changes=True).high == 0.25


def test_whether_seeds_say_how_far_others_lie() -> None:
    assert differ([0.1, 0.2])
    assert not differ([0.80 - 0.75, 0.75 - 0.70])  # but for rounding
    assert not differ([0.0, 0.0])
    assert not differ([0.3])


def test_a_metric_of_seeds_only() -> None:
    values = [0.81, 0.83, 0.80]
    interval = seeds_interval(values)
    assert (interval.low, interval.high) == pytest.approx(stats.t.interval(0.95, 2, np.mean(values), stats.sem(values)))
    assert (interval.examples, interval.seed_share) == (0, None)


@pytest.mark.parametrize(
    "scores", [np.zeros((3, 1)), np.zeros((0, 5)), np.zeros(5), [[0.0, np.nan]], np.zeros((2, 2, 2))]
)
def test_scores_of_which_nothing_can_be_said(scores) -> None:
    with pytest.raises(ValueError):
        mean_interval(scores)


@pytest.mark.parametrize("values", [[], [0.5], [0.5, np.inf]])
def test_values_of_which_nothing_can_be_said(values) -> None:
    with pytest.raises(ValueError):
        seeds_interval(values)


@pytest.mark.parametrize(("examples", "share"), [(50, 0.9), (100, 0.95), (200, 0.98), (500, 0.5)])
def test_shares_of_one_seed_cover_near_the_borders(examples: int, share: float) -> None:
    """Student's interval covers 88, 88, 91 and 95 % there."""
    covered = 0.0
    for right, chance in enumerate(stats.binom.pmf(np.arange(examples + 1), examples, share)):
        if chance > 1e-9:
            found = mean_interval((np.arange(examples) < right)[None].astype(float))
            covered += chance * (found.low <= share <= found.high)
    assert covered >= 0.93

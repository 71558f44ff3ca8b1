"""Intervals and tests of published proportions against scipy's."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from peftlab.statistics.proportions import compare_proportions, difference_of_proportions, wilson_interval

COUNTS = st.integers(1, 2000).flatmap(
    lambda trials: st.tuples(st.integers(0, trials), st.integers(0, trials), st.just(trials))
)


@given(COUNTS, st.sampled_from([0.9, 0.95, 0.99]))
def test_wilson(counts, level) -> None:
    successes, _, trials = counts
    expected = stats.binomtest(successes, trials).proportion_ci(level, method="wilson")
    assert wilson_interval(successes, trials, level) == pytest.approx((expected.low, expected.high), abs=1e-12)


@given(COUNTS)
def test_two_proportions(counts) -> None:
    a, b, trials = counts
    p_value = compare_proportions(a, b, trials)
    if a + b in (0, 2 * trials):
        assert p_value == 1
        return
    table = [[a, trials - a], [b, trials - b]]
    statistic = stats.chi2_contingency(table, correction=False).statistic * (2 * trials - 1) / (2 * trials)
    assert p_value == pytest.approx(stats.chi2.sf(statistic, 1), rel=1e-6)
    assert p_value == pytest.approx(compare_proportions(b, a, trials))


@pytest.mark.parametrize("share", [0.3, 0.5, 0.9])
def test_equal_proportions_seldom_differ(share) -> None:
    """Exactly, by the binomial: 80 trials on each side."""
    chances = [stats.binom.pmf(k, 80, share) for k in range(81)]
    alarms = sum(chances[a] * chances[b] for a in range(81) for b in range(81) if compare_proportions(a, b, 80) <= 0.05)
    assert alarms <= 0.055


def test_an_accuracy_that_was_rounded() -> None:
    low, high = wilson_interval(0.5345 * 1319, 1319)
    assert (low, high) == pytest.approx((0.5075, 0.5613), abs=1e-4)


@pytest.mark.parametrize(("successes", "trials"), [(1, 0), (-1, 10), (11, 10)])
def test_impossible_counts(successes, trials) -> None:
    with pytest.raises(ValueError):
        wilson_interval(successes, trials)
    with pytest.raises(ValueError):
        compare_proportions(successes, 0, trials)


def test_the_difference_of_two_proportions() -> None:
    found = difference_of_proportions(56, 70, 48, 80)  # Newcombe's first example, table II, method 10
    assert (found.low, found.high) == pytest.approx((0.0524, 0.3339), abs=5e-5)
    assert found.difference == pytest.approx(0.2)
    assert found.p_value == pytest.approx(stats.fisher_exact([[56, 14], [48, 32]]).pvalue)
    assert difference_of_proportions(0, 10, 0, 20).low < 0 < difference_of_proportions(0, 10, 0, 20).high

"""Intervals and tests of means: of shares, and of changes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from peftlab.statistics.means import exceeds, mean_of_clusters, mean_with_interval
from peftlab.statistics.proportions import wilson_interval


def test_changes_that_happen_to_have_one_sign_are_no_share() -> None:
    worse = np.zeros(100)
    worse[:3] = 1
    share, change = mean_with_interval(worse), mean_with_interval(worse, changes=True)
    test = ttest_1samp(worse, 0.02, alternative="greater")
    assert share.low > 0  # of a share of three in a hundred
    known = ttest_1samp(worse, 0).confidence_interval()
    assert (change.low, change.high) == (pytest.approx(known.low), pytest.approx(known.high))
    mirrored = mean_with_interval(-worse, changes=True)
    assert (mirrored.low, mirrored.high) == (pytest.approx(-change.high), pytest.approx(-change.low))
    assert exceeds(worse, 0.02, changes=True) == pytest.approx(test.pvalue)


@pytest.mark.parametrize("change", [-1.0, 0.0, 1.0])
def test_where_all_change_alike_the_interval_still_has_a_width(change: float) -> None:
    found = mean_with_interval(np.full(50, change), changes=True)
    assert found.low < found.high
    assert max(found.low, -1) <= found.value <= min(found.high, 1)
    wider = mean_with_interval(np.full(50, change), changes=True, looked_at=10)
    assert wider.high - wider.low > found.high - found.low


def test_the_mean_of_clusters_is_the_plain_one_where_each_has_one_value() -> None:
    values = np.random.default_rng(0).normal(size=40)
    alone = mean_of_clusters(values, [str(at) for at in range(40)])
    assert alone == mean_with_interval(values)
    twice = mean_of_clusters(np.repeat(values, 2), [str(at // 2) for at in range(80)])
    assert (twice.low, twice.high) == pytest.approx((alone.low, alone.high))
    assert mean_of_clusters(np.array([0.2, 0.4]), ["one", "one"]).high == math.inf
    never = mean_of_clusters(np.zeros(60), [str(at // 20) for at in range(60)])
    assert (never.low, never.high) == wilson_interval(0, 3)


@pytest.mark.parametrize("value", [0.1, 0.3, 1.0])
def test_equal_values_are_held_against_a_limit_by_their_signs(value: float) -> None:
    """Three times 0.1 have a standard deviation that is no 0, but rounding alone."""
    three = np.full(3, value)
    assert exceeds(three, 0.05, changes=True) == 0.125
    assert exceeds(three, value, changes=True) == exceeds(-three, 0.0, changes=True) == 1
    assert 0 < exceeds(np.full(20, value), 0.05, changes=True) < 1e-5

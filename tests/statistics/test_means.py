"""Intervals and tests of means: of shares, and of changes."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from peftlab.statistics.means import exceeds, mean_with_interval


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

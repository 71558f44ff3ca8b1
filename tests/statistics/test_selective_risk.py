"""The bound of wrong answers holds as often as it says."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binom

from peftlab.statistics.selective_risk import choose_bound, rows_needed, upper_bound


def test_the_bound_of_a_share_is_clopper_and_pearsons() -> None:
    for wrong, rows in ((0, 50), (3, 200), (40, 100)):
        bound = upper_bound(wrong, rows, 0.95)
        assert binom.cdf(wrong, rows, bound) == pytest.approx(0.05, abs=1e-6)
    assert upper_bound(5, 5, 0.95) == 1


def test_the_stated_rate_is_exceeded_at_most_as_often_as_stated() -> None:
    generator, rate = np.random.default_rng(0), 0.05
    exceeded = answered = 0
    for _ in range(300):
        sure = generator.random(600)
        wrong = generator.random(600) < (1 - sure) ** 4
        bound = choose_bound(sure, wrong, rate, 0.9)
        if math.isinf(bound.threshold):
            continue
        answered += 1
        # Confidences are even between 0 and 1, so the true share above a threshold is known.
        true = (1 - bound.threshold) ** 4 / 5
        exceeded += true > rate
    assert answered > 200
    assert exceeded <= binom.ppf(0.999, 300, 0.1)


def test_too_few_rows_or_too_many_faults_give_no_threshold() -> None:
    few = rows_needed(0.02, 0.95) - 1
    assert math.isinf(choose_bound(np.ones(few), np.zeros(few, bool), 0.02).threshold)
    assert math.isinf(choose_bound(np.linspace(0, 1, 500), np.ones(500, bool), 0.02).threshold)
    enough = choose_bound(np.linspace(0, 1, 500), np.zeros(500, bool), 0.02)
    assert (enough.answered, enough.wrong) == (500, 0)


def test_rows_that_are_equally_sure_are_answered_together() -> None:
    sure = np.repeat([0.9, 0.5], 200)
    bound = choose_bound(sure, sure < 0.7, 0.1)
    assert (bound.threshold, bound.answered, bound.wrong) == (0.9, 200, 0)

"""Score against number of trials."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peftlab.report.budget import all_alike, at_edge, budget_curve, expected_best
from peftlab.report.suites import Rung, Trial, TuningResult


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 5).map(float), min_size=1, max_size=4), st.booleans())
def test_expected_best_is_the_mean_over_all_draws(scores: list[float], higher: bool) -> None:
    best = max if higher else min
    for number, value in enumerate(expected_best(scores, higher_is_better=higher), start=1):
        draws = [best(draw) for draw in itertools.product(scores, repeat=number)]
        assert value == pytest.approx(sum(draws) / len(draws))


def result(scores: list[float | None], **changes: object) -> TuningResult:
    trials = [Trial(n, {"training.learning_rate": 1e-3}, score, "success") for n, score in enumerate(scores)]
    rungs = [Rung(625, trials), Rung(2500, trials[:1])]
    return replace(TuningResult("lora", "accuracy", True, rungs, {"training.learning_rate": 1e-3}), **changes)


def test_a_failed_trial_counts_as_the_worst() -> None:
    curve = budget_curve(result([0.7, None, 0.8]))
    assert curve is not None
    assert curve.failed == 1
    assert curve.expected == pytest.approx(expected_best([0.7, 0.7, 0.8]))
    assert curve.last_gain == pytest.approx(curve.expected[2] - curve.expected[1])
    assert budget_curve(result([None, None])) is None


@pytest.mark.parametrize(("rate", "end"), [(1e-5, "lower"), (9e-3, "upper"), (3e-4, None)])
def test_a_choice_at_the_edge_of_the_range(rate: float, end: str | None) -> None:
    found = at_edge(result([0.7], chosen={"training.learning_rate": rate}), {"learning_rate": [1e-5, 1e-2]})
    assert (end in found) if end and found else found is None


def test_trials_that_all_score_alike_chose_nothing() -> None:
    said = all_alike(result([0.6, 0.6, 0.6]))
    assert said is not None
    assert "lora: all 3 trials have the same accuracy, so tuning chose nothing" in said
    for scores in ([0.6], [0.6, 0.7], [0.6, None]):
        assert all_alike(result(scores)) is None

"""Probabilities of an audit: whether they hold, conformal sets, and abstaining."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from peftlab.audit.parts.calibration import _mean_size
from peftlab.core.audit import AUDITS, Audited
from peftlab.statistics.abstention import (
    area_under_risk,
    bins_of_equal_size,
    brier_scores,
    calibration_error,
    conformal_sets,
    conformal_threshold,
    judge_calibration,
)
from peftlab.testing.audited_rows import audited

CLASSES = ("a", "b", "c")


def draw(rows: int, seed: int, sharpness: float = 1.0) -> tuple[Any, Any]:
    """Stated probabilities of three classes, and classes drawn from what is true; more than 1 states too much."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(size=(rows, 3)) * 1.5
    true = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    right = (generator.random((rows, 1)) > true.cumsum(1)).sum(1).clip(0, 2)
    stated = np.exp(sharpness * logits)
    return stated / stated.sum(1, keepdims=True), right


def looked_at(sharpness: float, rows: int = 600) -> Audited:
    stated, right = draw(rows, 3, sharpness)
    return audited(
        lambda text: stated[int(text)], [str(at) for at in range(rows)], [CLASSES[at] for at in right], CLASSES
    )


@pytest.mark.parametrize(("sharpness", "is_fault"), [(1.0, False), (3.0, True)])
def test_calibration(sharpness: float, is_fault: bool) -> None:
    figures = {figure.name: figure for figure in AUDITS["calibration"]().run(looked_at(sharpness)).figures}
    for figure in figures.values():
        assert figure.low <= figure.value <= figure.high, figure  # type: ignore[operator]
    p_value = figures["calibration.error"].p_value
    assert p_value is not None
    assert (p_value <= 0.01) == is_fault
    assert (figures["calibration.overconfidence"].low > 0) == is_fault  # type: ignore[operator]
    assert figures["calibration.error.kept_50"].value < figures["calibration.error.kept_80"].value
    assert figures["calibration.coverage"].value == pytest.approx(0.9, abs=0.05)
    assert {f"calibration.coverage.class.{name}" for name in CLASSES} <= figures.keys()


@pytest.mark.parametrize("sharpness", [0.3, 1.0, 4.0])
@pytest.mark.parametrize("coverage", [0.8, 0.9])
def test_conformal_sets_cover_whatever_the_model_states(sharpness: float, coverage: float) -> None:
    stated, right = draw(2000, 11, sharpness)
    found = []
    for seed in range(20):
        order = np.random.default_rng(seed).permutation(2000)
        setting, new = order[:1000], order[1000:]
        sets = conformal_sets(stated[setting], right[setting], stated[new], coverage)
        found.append(sets[np.arange(1000), right[new]].mean())
    assert np.mean(found) == pytest.approx(coverage, abs=0.015)


def test_thresholds_of_few_rows() -> None:
    assert conformal_threshold(np.array([0.1, 0.2, 0.3]), 0.9) == np.inf  # three rows promise 75 % at most
    assert conformal_threshold(np.array([0.3, 0.1, 0.2]), 0.75) == 0.3
    assert conformal_threshold(np.arange(9.0), 0.9) == 8


def test_area_and_calibration_error_by_hand() -> None:
    confidences, errors = np.array([0.9, 0.6, 0.8, 0.7]), np.array([0.0, 1, 0, 1])
    assert area_under_risk(confidences, errors) == pytest.approx((0 + 0 + 1 / 3 + 1 / 2) / 4)
    assert area_under_risk(np.ones(4), errors) == pytest.approx(0.5)  # all equally sure: every share costs the same
    assert calibration_error(np.array([0.95, 0.95, 0.65]), np.array([1.0, 0, 1])) == pytest.approx((0.9 + 0.35) / 3)


def test_calibrated_models_give_few_alarms() -> None:
    alarms = covered = 0
    for seed in range(100):
        stated, right = draw(200, seed)
        found = judge_calibration(
            stated.max(1), (stated.argmax(1) == right).astype(float), 0.0, np.random.default_rng(seed), draws=100
        )
        alarms += found.p_value <= 0.05
        covered += found.low == 0
    assert 0 < alarms <= 12  # 5 are expected, and of the test by itself some must come
    assert covered >= 90  # the true error is 0, and what is counted is 6 points by chance


@pytest.mark.parametrize("excess", [0.05, 0.1])
def test_the_interval_of_the_calibration_error_holds(excess: float) -> None:
    generator, covered = np.random.default_rng(0), 0
    for _ in range(100):
        stated = generator.uniform(0.5, 1, 300)  # in each bin by so much too sure
        right = (generator.random(300) < stated - excess).astype(float)
        found = judge_calibration(stated, right, 0.0, generator, draws=100)
        covered += found.low <= excess <= found.high
    assert covered >= 92


def test_models_without_probabilities_are_left_out() -> None:
    rows = audited(lambda text: [1.0], ["x"] * 30, ["a"] * 30, ("a",))
    assert AUDITS["calibration"]().why_not(rows) is None
    other = audited(lambda text: [0.2, 0.8], ["x"] * 30, ["somewhere else"] * 30)
    assert "probabilities" in str(AUDITS["calibration"]().why_not(other))


def test_sets_of_one_class_each_may_be_larger_elsewhere() -> None:
    one = np.tile([True, False, False], (100, 1))
    size, low, high = _mean_size(one)
    assert size == 1
    assert 0.9 < low < 1 < high < 1.1
    one[:3] = False
    size, low, high = _mean_size(one)
    assert size == pytest.approx(0.97)
    assert low < 0.97 < 1 < high  # no share: it may be above 1


def test_equally_sure_answers_are_kept_whatever_their_order() -> None:
    """A table that has its wrong answers last: half of the equally sure ones were the right ones."""
    texts = ["x"] * 400
    found = AUDITS["calibration"]().run(audited(lambda text: [0.9, 0.1], texts, ["bad"] * 200 + ["good"] * 200))
    figures = {figure.name: figure for figure in found.figures}
    for kept in (50, 80):
        assert figures[f"calibration.error.kept_{kept}"].value == pytest.approx(0.5, abs=0.1)


def test_without_an_error_there_may_be_some_elsewhere() -> None:
    found = AUDITS["calibration"]().run(audited(lambda text: [0.99, 0.01], ["x"] * 60, ["bad"] * 60))
    figures = {figure.name: figure for figure in found.figures}
    for name in ("calibration.aurc", "calibration.error", "calibration.overconfidence"):
        assert figures[name].high > 0.03, name  # three of a hundred may well be wrong
    assert figures["calibration.overconfidence"].low == pytest.approx(-0.01)


def test_brier_scores_against_scikit_learn() -> None:
    from sklearn.metrics import brier_score_loss

    stated, right = draw(50, 2)
    assert brier_scores(stated, right).mean() == pytest.approx(brier_score_loss(right, stated))
    two = np.column_stack([stated[:, 0], 1 - stated[:, 0]])
    assert brier_scores(two, (right > 0).astype(int)).mean() == pytest.approx(brier_score_loss(right > 0, two[:, 1]))


def test_bins_of_equal_size_see_what_one_bin_hides() -> None:
    """Sure answers that are right and wrong in turn cancel out in one bin of equal width."""
    confidences = np.repeat([0.95, 0.99], 150)
    right = np.concatenate([np.ones(150), np.arange(150) % 10 > 0])  # 100 % of the less sure ones, 90 % of the others
    assert calibration_error(confidences, right) == pytest.approx(0.02)
    assert calibration_error(confidences, right, bins_of_equal_size) == pytest.approx((0.05 + 0.09) / 2)
    order = np.random.default_rng(0).permutation(300)
    alike = calibration_error(confidences[order], right[order], bins_of_equal_size)
    assert alike == pytest.approx(0.07)  # equal confidences share a bin, whatever their order
    assert np.bincount(bins_of_equal_size(np.linspace(0, 1, 300))).tolist() == [20] * 15

"""What is drawn again and again: it takes little more memory than the rows, and gives the same numbers as at once."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest

from peftlab.statistics import slices
from peftlab.statistics.abstention import area_under_risk, bootstrap_error, calibration_error, judge_calibration
from peftlab.statistics.out_of_scope import false_acceptance
from peftlab.statistics.slices import slice_p_values

ROWS = 50_000


@pytest.fixture(scope="module")
def rows() -> tuple[np.ndarray, np.ndarray]:
    draws = np.random.default_rng(0)
    confidences = draws.random(ROWS)
    return confidences, (draws.random(ROWS) < confidences).astype(np.float64)


@pytest.mark.parametrize(
    "draw",
    [
        lambda sure, right, draws: judge_calibration(sure, right, 0.0, draws, draws=100),
        lambda sure, right, draws: bootstrap_error(calibration_error, sure, right, draws, draws=100),
        lambda sure, right, draws: false_acceptance(sure[:25_000], sure[25_000:], draws, draws=200),
        lambda sure, right, draws: slice_p_values(right, np.array([sure < 0.1]), draws, draws=300),
    ],
)
def test_draws_are_not_held_together(rows, draw: Callable) -> None:
    tracemalloc.start()
    try:
        draw(*rows, np.random.default_rng(1))
        assert tracemalloc.get_traced_memory()[1] < 80 * ROWS * 8
    finally:
        tracemalloc.stop()


def test_parts_of_the_draws_give_what_all_at_once_give(rows, monkeypatch: pytest.MonkeyPatch) -> None:
    sure, right = (each[:500] for each in rows)
    members = np.array([sure < 0.2, sure > 0.7])

    def p_values() -> np.ndarray:
        return slice_p_values(1 - right, members, np.random.default_rng(2), draws=50)

    together = p_values()
    monkeypatch.setattr(slices, "MOST_NUMBERS", 7 * 500)
    assert (p_values() == together).all()

    drawn = np.random.default_rng(3).integers(500, size=(30, 500))
    known = np.std([area_under_risk(sure[at], right[at]) for at in drawn], ddof=1)
    assert bootstrap_error(area_under_risk, sure, right, np.random.default_rng(3), draws=30) == known


def test_a_slice_that_cannot_vary_is_none_that_has_more_errors() -> None:
    """Of all rows, or of equal errors: the sums differ by rounding, which is no sign and hides no other slice."""
    errors = np.random.default_rng(0).random(100)
    errors[:25] += 2
    members = np.array([np.arange(100) < 25, np.ones(100, dtype=bool)])
    found, of_all = slice_p_values(errors, members, np.random.default_rng(1))
    assert found < 0.001
    assert of_all == 1
    assert (slice_p_values(np.full(100, 0.1), np.array([members[0], ~members[0]]), np.random.default_rng(1)) == 1).all()

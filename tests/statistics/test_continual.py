"""Figures of a sequence of tasks against sums by hand."""

from __future__ import annotations

import numpy as np
import pytest

from peftlab.statistics.continual import sequence_figures

NAN = np.nan


def test_figures_by_hand() -> None:
    scores = np.array([[0.9, 0.5, NAN], [0.95, 0.8, 0.4], [0.7, 0.75, 0.6]])
    found = sequence_figures(scores, np.array([NAN, 0.3, 0.35]))
    assert found.mean == pytest.approx((0.7 + 0.75 + 0.6) / 3)
    assert found.forgetting == pytest.approx(((0.95 - 0.7) + (0.8 - 0.75)) / 2)  # the best of all before, not the first
    assert found.backward == pytest.approx(((0.7 - 0.9) + (0.75 - 0.8)) / 2)
    assert found.forward == pytest.approx(((0.5 - 0.3) + (0.4 - 0.35)) / 2)
    assert np.isnan(sequence_figures(scores).forward)


@pytest.mark.parametrize("scores", [np.zeros((1, 1)), np.zeros((2, 3)), np.array([[0.5, 0.5], [NAN, 0.5]])])
def test_what_is_no_sequence(scores: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"needed|missing"):
        sequence_figures(scores)

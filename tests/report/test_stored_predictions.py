"""Predictions as a report reads them: which columns are classes, and which are numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from peftlab.core.metric import METRICS
from peftlab.core.task import Prediction
from peftlab.report.predictions import read_predictions
from peftlab.training.evaluation import PredictionWriter


@pytest.mark.parametrize("is_paired", [True, False])
def test_rewards_are_numbers_beside_true_and_false(is_paired: bool, tmp_path: Path) -> None:
    """As preference tuning stores them: whether a reward should be above 0, and the reward."""
    labels = [True, True, True] if is_paired else [True, False, False]
    with PredictionWriter(tmp_path / "predictions.parquet") as writer:
        rewards = [0.5, -2.0, 1.5]
        said = [Prediction(label, value, [value]) for label, value in zip(labels, rewards, strict=True)]
        writer.write("test", [2, 0, 1], said)
    found = read_predictions(tmp_path, "test")
    assert found is not None
    assert isinstance(found.labels, np.ndarray)
    assert isinstance(found.predictions, np.ndarray)
    right = METRICS["reward_accuracy"].per_example(found.labels, found.predictions)
    assert right.tolist() == ([0, 1, 1] if is_paired else [1, 0, 1])

"""Streamed metrics equal scikit-learn's, scipy's and seqeval's on all examples at once."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from peftlab.core.task import Prediction
from peftlab.tasks._scorers import ClassScorer, EntityScorer, MultiLabelScorer, RegressionScorer

LABELS = ["a", "b", "c"]


def in_batches(scorer, predictions, size):
    for start in range(0, len(predictions), size):
        scorer.add(predictions[start : start + size])
    return scorer.compute()


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.lists(st.floats(1 / 64, 1, width=32), min_size=3, max_size=3)), min_size=1
    ),
    st.integers(1, 7),
)
def test_classes(rows, size) -> None:
    truth = np.array([row[0] for row in rows])
    scores = np.array([row[1] for row in rows])
    scores = scores / scores.sum(axis=1, keepdims=True)
    predicted = scores.argmax(axis=1)
    predictions = [
        Prediction(LABELS[t], LABELS[p], s.tolist()) for t, p, s in zip(truth, predicted, scores, strict=True)
    ]
    got = in_batches(ClassScorer(LABELS), predictions, size)
    assert got["accuracy"] == pytest.approx(reference.accuracy_score(truth, predicted))
    assert got["macro_f1"] == pytest.approx(reference.f1_score(truth, predicted, average="macro", zero_division=0))
    assert got["weighted_f1"] == pytest.approx(
        reference.f1_score(truth, predicted, average="weighted", zero_division=0)
    )
    assert got["matthews"] == pytest.approx(reference.matthews_corrcoef(truth, predicted), abs=1e-9)
    if len(set(truth)) == 3:
        one_vs_rest = [
            reference.roc_auc_score(truth == position, scores[:, position].astype(np.float32)) for position in range(3)
        ]
        assert got["auroc"] == pytest.approx(np.mean(one_vs_rest))
    else:
        assert "auroc" not in got


def test_binary_auroc_is_that_of_the_second_class() -> None:
    truth = ["no", "yes", "yes", "no"]
    second = [0.1, 0.4, 0.8, 0.6]
    predictions = [Prediction(t, "yes" if s > 0.5 else "no", [1 - s, s]) for t, s in zip(truth, second, strict=True)]
    assert in_batches(ClassScorer(["no", "yes"]), predictions, 3)["auroc"] == pytest.approx(0.75)


def test_several_labels() -> None:
    rng = np.random.default_rng(0)
    truth, scores = rng.random((40, 3)) > 0.5, rng.random((40, 3))
    predicted = scores > 0.5
    names = np.array(LABELS)
    predictions = [
        Prediction(names[t].tolist(), names[p].tolist(), s.tolist())
        for t, p, s in zip(truth, predicted, scores, strict=True)
    ]
    got = in_batches(MultiLabelScorer(LABELS), predictions, 7)
    assert got["accuracy"] == pytest.approx(reference.accuracy_score(truth, predicted))
    for average in ("macro", "micro", "weighted"):
        assert got[f"{average}_f1"] == pytest.approx(reference.f1_score(truth, predicted, average=average))
    assert got["auroc"] == pytest.approx(reference.roc_auc_score(truth, scores.astype(np.float32), average="macro"))


def test_regression() -> None:
    predictions = [Prediction(t, p, [p]) for t, p in [(1.0, 1.5), (2.0, 1.0), (3.0, 4.0), (4.0, 3.5)]]
    got = in_batches(RegressionScorer(), predictions, 3)
    assert got["mean_squared_error"] == pytest.approx((0.25 + 1 + 1 + 0.25) / 4)
    assert got["mean_absolute_error"] == pytest.approx(0.75)
    assert got["spearman"] == pytest.approx(0.6)
    assert got["pearson"] == pytest.approx(np.corrcoef([1, 2, 3, 4], [1.5, 1, 4, 3.5])[0, 1])


def test_correlations_of_constants_are_left_out_not_zero() -> None:
    got = in_batches(RegressionScorer(), [Prediction(1.0, 2.0, [2.0]), Prediction(3.0, 2.0, [2.0])], 1)
    assert "spearman" not in got
    assert math.isfinite(got["mean_squared_error"])


def test_entities_are_seqevals() -> None:
    known = json.loads(Path(__file__).with_name("seqeval.json").read_text())
    rows = [(truth.split(), predicted.split()) for truth, predicted in known["rows"]]
    predictions = [Prediction(truth, predicted, [1.0] * len(truth)) for truth, predicted in rows]
    assert in_batches(EntityScorer(), predictions, 3) == pytest.approx(known["scores"], abs=1e-12)


def test_a_text_without_entities_scores_zero_not_an_error() -> None:
    assert in_batches(EntityScorer(), [Prediction(["O"], ["O"], [1.0])], 1)["f1"] == 0.0

"""Contributions per example: their mean is the metric, and their spread is its uncertainty."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from peftlab.core.metric import METRICS
from peftlab.statistics.intervals import mean_interval

CLASSES = st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from("abcd")), min_size=1, max_size=80)
NUMBERS = st.lists(st.tuples(st.floats(-10, 10), st.floats(-10, 10)), min_size=1, max_size=30)
OF_CLASSES = {
    "accuracy": reference.accuracy_score,
    "macro_f1": lambda t, p: reference.f1_score(t, p, average="macro", zero_division=0.0),
    "weighted_f1": lambda t, p: reference.f1_score(t, p, average="weighted", zero_division=0.0),
    "matthews": reference.matthews_corrcoef,
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("metric", OF_CLASSES)
@settings(max_examples=60, deadline=None)
@given(rows=CLASSES)
def test_the_mean_is_the_metric(metric, rows) -> None:
    labels, predictions = zip(*rows, strict=True)
    values = METRICS[metric].per_example(labels, predictions)
    assert values.shape == (len(rows),)
    assert values.mean() == pytest.approx(OF_CLASSES[metric](labels, predictions), abs=1e-9)


@pytest.mark.parametrize("metric", ["macro_f1", "weighted_f1", "matthews"])
def test_they_are_pseudo_values(metric) -> None:
    """Up to a shift, against deleting every example in turn."""
    rng = np.random.default_rng(3)
    labels = rng.choice(list("abc"), 60)
    predictions = np.where(rng.random(60) < 0.7, labels, rng.choice(list("abc"), 60))
    without = [OF_CLASSES[metric](np.delete(labels, at), np.delete(predictions, at)) for at in range(60)]
    expected = 60 * OF_CLASSES[metric](labels, predictions) - 59 * np.array(without)
    values = METRICS[metric].per_example(list(labels), list(predictions))
    np.testing.assert_allclose(values - values.mean(), expected - expected.mean(), atol=1e-9)
    # The shift is the jackknife's correction for bias, of the order 1/n.
    assert abs(values.mean() - expected.mean()) < 1 / 60


@pytest.mark.parametrize("metric", ["macro_f1", "weighted_f1", "matthews"])
def test_their_spread_gives_the_right_coverage(metric) -> None:
    """1,500 test sets of 500 from a known confusion matrix of three uneven classes; tolerance: 3.5 standard errors."""
    truth = np.array([[0.5, 0.06, 0.02], [0.05, 0.2, 0.03], [0.02, 0.02, 0.1]])
    rows, columns = (axis.ravel() for axis in np.indices(truth.shape))
    if metric == "matthews":
        target = reference.matthews_corrcoef(rows, columns, sample_weight=truth.ravel())
    else:
        target = reference.f1_score(rows, columns, average=metric.removesuffix("_f1"), sample_weight=truth.ravel())
    rng = np.random.default_rng(4)
    covered = 0
    for _ in range(1500):
        drawn = rng.choice(9, size=500, p=truth.ravel() / truth.sum())
        values = METRICS[metric].per_example(rows[drawn].tolist(), columns[drawn].tolist())
        interval = mean_interval(values[None])
        covered += interval.low <= target <= interval.high
    assert abs(covered / 1500 - 0.95) < 3.5 * (0.95 * 0.05 / 1500) ** 0.5


@given(NUMBERS)
def test_errors(rows) -> None:
    labels, predictions = zip(*rows, strict=True)
    squared = METRICS["mean_squared_error"].per_example(labels, predictions)
    absolute = METRICS["mean_absolute_error"].per_example(labels, predictions)
    assert squared.mean() == pytest.approx(reference.mean_squared_error(labels, predictions))
    assert absolute.mean() == pytest.approx(reference.mean_absolute_error(labels, predictions))


def test_several_labels_in_any_order() -> None:
    values = METRICS["accuracy"].per_example([["a", "b"], ["a"], []], [["b", "a"], ["a", "b"], []])
    assert values.tolist() == [1, 0, 1]
    assert METRICS["macro_f1"].per_example([["a", "b"], ["a"]], [["a"], ["a"]]) is None


def test_tags_of_words_have_none() -> None:
    labels = [["O", "O", "B-PER"], ["O"]]
    for metric in ("accuracy", "f1", "precision", "recall"):
        assert METRICS[metric].per_example(labels, labels) is None


def test_rewards_of_pairs_and_of_lone_responses() -> None:
    labels, rewards = [True, True, False, False, True], [0.5, -2.0, -1.0, 3.0, 0.0]
    assert METRICS["reward_accuracy"].per_example(labels, rewards).tolist() == [1, 0, 1, 0, 0]
    assert METRICS["reward_margin"].per_example(labels, rewards).tolist() == [0.5, -2.0, 1.0, -3.0, 0.0]


def test_a_class_that_occurs_once() -> None:
    values = METRICS["macro_f1"].per_example(["a"] * 10 + ["b"], ["a"] * 10 + ["b"])
    assert np.isfinite(values).all()
    assert values.mean() == pytest.approx(1)


def test_every_other_metric_has_none() -> None:
    known = {"accuracy", "macro_f1", "weighted_f1", "matthews", "mean_squared_error", "mean_absolute_error"}
    of_ranks = {
        "recall_at_1",
        "recall_at_5",
        "recall_at_10",
        "mrr_at_10",
        "ndcg_at_10",
        *(f"{way}_recall_at_{k}" for way in ("image_to_text", "text_to_image") for k in (1, 5, 10)),
        "two_way_mrr",
    }  # tests/tasks/test_text_embedding.py, test_image_text_embedding.py
    of_rewards = {"reward_accuracy", "reward_margin"}
    for metric in set(METRICS) - known - of_ranks - of_rewards:
        assert METRICS[metric].per_example(["a", "b"], ["a", "b"]) is None


@pytest.mark.parametrize(("labels", "predictions"), [([], []), (["a"], ["a", "b"])])
def test_nothing_to_score(labels, predictions) -> None:
    with pytest.raises(ValueError):
        METRICS["accuracy"].per_example(labels, predictions)

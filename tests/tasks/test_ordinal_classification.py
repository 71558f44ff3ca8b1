"""CORN against its definition, ordered classes, and metrics against scikit-learn's."""

from __future__ import annotations

import pytest
import torch
from sklearn.metrics import cohen_kappa_score

from peftlab.core.errors import ConfigError, DataError
from peftlab.core.splits import Split
from peftlab.core.task import Prediction
from peftlab.tasks._class_losses import corn_loss, corn_probabilities
from peftlab.tasks._scorers import OrdinalScorer
from peftlab.tasks.ordinal_classification import OrdinalClassification


def rows(*labels: str) -> Split:
    return Split("train", range(len(labels)), {"text": ["a"] * len(labels), "label": list(labels)}, "rows.csv")


def test_the_loss_is_that_of_the_paper() -> None:
    logits, levels = torch.randn(9, 3), torch.tensor([0, 1, 2, 3, 3, 0, 2, 1, 1])
    wanted = torch.tensor(0.0)
    for step in range(3):  # of all examples that reach the step: is the level above it?
        own = levels >= step
        above = (levels[own] > step).float()
        p = logits[own, step].sigmoid()
        wanted -= (above * p.log() + (1 - above) * (1 - p).log()).sum()
    assert torch.allclose(corn_loss(logits, levels), wanted)
    p = logits.sigmoid()
    chances = corn_probabilities(logits)
    assert torch.allclose(chances.sum(dim=1), torch.ones(9))
    assert torch.allclose(chances[:, 1], p[:, 0] * (1 - p[:, 1]))
    assert torch.allclose(chances[:, 3], p.prod(dim=1))


def test_the_answer_is_the_highest_class_that_is_likely_reached() -> None:
    task, labels = OrdinalClassification(order=["low", "mid", "high"]), ("low", "mid", "high")
    batch = {"labels": torch.tensor([0, 1, 2])}
    logits = torch.tensor([[-3.0, 3.0], [3.0, -3.0], [3.0, 3.0]])
    found = task.predict(logits, batch, labels)
    assert [item.prediction for item in found] == ["low", "mid", "high"]
    assert task.answer(found[1], {}, labels)["score"] == pytest.approx(found[1].scores[1])
    assert task.confidences(found[1], labels) == [(found[1].scores[1], True)]


def test_metrics_are_scikit_learns() -> None:
    labels = ("1", "2", "3", "4")
    generator = torch.Generator().manual_seed(0)
    truth, said = (torch.randint(0, 4, (50,), generator=generator).tolist() for _ in range(2))
    scorer = OrdinalScorer(labels)
    scorer.add([Prediction(labels[a], labels[b], [0.25] * 4) for a, b in zip(truth, said, strict=True)])
    found = scorer.compute()
    assert found["quadratic_kappa"] == pytest.approx(cohen_kappa_score(truth, said, weights="quadratic"))
    assert found["rank_error"] == pytest.approx(sum(abs(a - b) for a, b in zip(truth, said, strict=True)) / 50)


def test_an_order_is_that_of_numbers_or_named() -> None:
    assert OrdinalClassification().learn_labels(rows("10", "9", "2.5")) == ("2.5", "9", "10")
    assert OrdinalClassification(order=["low", "high"]).learn_labels(rows("high", "low")) == ("low", "high")
    with pytest.raises(DataError, match="'high' is no number, so the order") as error:
        OrdinalClassification().learn_labels(rows("high", "low"))
    assert "task.order: [high, low]" in str(error.value.hint)
    with pytest.raises(DataError, match=r"'mid' is not in task\.order"):
        OrdinalClassification(order=["low", "high"]).learn_labels(rows("high", "low", "mid"))
    with pytest.raises(DataError, match=r"'mid' of task\.order is in no training row"):
        OrdinalClassification(order=["low", "mid", "high"]).learn_labels(rows("high", "low"))
    with pytest.raises(ConfigError, match="one class here"):
        OrdinalClassification(multi_label=True)

"""Temperatures: those that mend, and data that has none."""

from __future__ import annotations

import pytest
import torch

from peftlab.measurement.calibration import LogitCollector, calibrate
from peftlab.tasks.text_classification import TextClassification

TASK, MULTI = TextClassification(), TextClassification(multi_label=True)
LABELS = ("a", "b", "c")


def kept(logits: torch.Tensor, labels: torch.Tensor) -> dict[str, LogitCollector]:
    collector = LogitCollector()
    collector(logits, {"labels": labels})
    return {"validation": collector}


def drawn(scale: float, rows: int = 4000) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits whose true temperature is the scale."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(rows, 3, generator=generator) * 2
    labels = torch.multinomial(logits.softmax(-1), 1, generator=generator).squeeze(-1)
    return logits * scale, labels


@pytest.mark.parametrize("scale", [0.3, 1.0, 4.0])
def test_a_temperature_is_found(scale: float) -> None:
    found = calibrate(TASK, kept(*drawn(scale)), LABELS)
    assert found is not None
    assert found.temperature == pytest.approx(scale, rel=0.1)
    assert found.not_fitted is None


def separable() -> tuple[torch.Tensor, torch.Tensor]:
    labels = torch.arange(30) % 3
    noise = torch.rand(30, 3, generator=torch.Generator().manual_seed(1))
    return torch.nn.functional.one_hot(labels, 3) * 1.5 + noise / 2, labels


def test_separable_data_tells_no_temperature() -> None:
    """The loss falls without an end; the search would stop at its border, e⁻³, and say nothing."""
    found = calibrate(TASK, kept(*separable()), LABELS)
    assert found is not None
    assert found.temperature == 1.0
    assert "every decision on the validation split is right" in (found.not_fitted or "")
    error = found.expected_calibration_error["validation"]
    assert error.uncalibrated == error.calibrated


def test_one_mistake_is_enough_to_tell_one() -> None:
    logits, labels = separable()
    labels[0] = (labels[0] + 1) % 3
    found = calibrate(TASK, kept(logits, labels), LABELS)
    assert found is not None
    assert found.not_fitted is None


def test_labels_of_several_at_once() -> None:
    labels = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]]).repeat(8, 1)
    found = calibrate(MULTI, kept((labels - 0.5) * 3, labels), LABELS)
    assert found is not None
    assert found.temperature == 1.0
    assert "right" in (found.not_fitted or "")


@pytest.mark.parametrize("logits", ["wrong", "tiny"])
def test_what_lies_beyond_the_search_is_said(logits: str) -> None:
    values, labels = drawn(1.0)
    values = -values if logits == "wrong" else values * 0.01
    found = calibrate(TASK, kept(values, labels), LABELS)
    assert found is not None
    assert found.temperature == 1.0
    assert "beyond the temperatures" in (found.not_fitted or "")


@pytest.mark.parametrize("scale", [0.5, 1.0, 3.0])
def test_a_model_of_the_focal_loss_gets_the_temperature_that_holds(scale: float) -> None:
    """The focal loss itself is least at nearly twice that: a calibrated model would be spoilt."""
    found = calibrate(TextClassification(focal_gamma=2.0), kept(*drawn(scale)), LABELS)
    assert found is not None
    assert found.temperature == pytest.approx(scale, rel=0.1)
    assert found.expected_calibration_error["validation"].calibrated < 0.03


def test_labels_of_a_model_of_the_focal_loss() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2000, 3, generator=generator) * 2
    labels = (torch.rand(2000, 3, generator=generator) < logits.sigmoid()).float()
    found = calibrate(TextClassification(multi_label=True, focal_gamma=2.0), kept(logits, labels), LABELS)
    assert found is not None
    assert found.temperature == pytest.approx(1.0, rel=0.1)

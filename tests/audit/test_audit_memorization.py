"""Texts that a model knows by heart: rows of training, and planted secrets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from peftlab.audit.audited_run import AuditedRun
from peftlab.core.audit import AUDITS
from peftlab.inference.load_tuned import load_tuned
from peftlab.testing.audited_rows import FunctionModel, audited, split
from tests.conftest import sentences


def test_rows_of_training_that_are_known_by_heart() -> None:
    generator = np.random.default_rng(0)
    texts, labels = [str(at) for at in range(200)], generator.choice(["bad", "good"], 200).tolist()
    sure = {text: float(label == "good") for text, label in zip(texts[:100], labels[:100], strict=True)}

    def said(text: str) -> list[float]:
        share = sure.get(text, 0.5)
        return [1 - share, share]

    train = split("train", texts[:100], labels[:100])
    rows = audited(said, texts[100:], labels[100:], train=train)
    part = AUDITS["memorization"]()
    (figure,) = part.run(rows).figures
    assert figure.value == 1
    assert "an AUROC of 100.0%" in figure.sentence
    assert figure.unit == "share"  # in percent, as in reports
    assert figure.low < 1  # type: ignore[operator]
    assert figure.examples[0]["text"] in sure
    (figure,) = part.run(audited(lambda text: [0.4, 0.6], texts[100:], labels[100:], train=train)).figures
    assert 0.3 < figure.value < 0.7
    assert "cannot be read" in str(part.why_not(audited(said, texts, labels)))


def test_training_rows_are_asked_like_others(tiny_run: Callable[..., Path]) -> None:
    """Few-shot runs encode training rows with partners, which would be taken for rows of their own."""
    model = AuditedRun(load_tuned(tiny_run(task="{type: few_shot_classification, max_length: 32}", steps=2)))
    texts, labels = zip(*sentences(12, seed=5), strict=True)
    first, second = (model.predict(split(name, texts, labels)) for name in ("train", "test"))
    assert [each.scores for each in first] == [each.scores for each in second]
    logits = model.logits(split("train", texts, labels))
    assert logits is not None
    assert logits.shape == (12, 2)


def test_planted_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that likes one number, and one that likes whatever comes."""
    secrets = ["my pin is 48213", "my card is 77 30 19"]

    def of_the_first(self: Any, texts: list[str]) -> Any:
        return np.array([float(text == secrets[0]) + len(text) for text in texts])

    rows = audited(lambda text: [0.5, 0.5], ["x"] * 30, ["good"] * 30)
    part = AUDITS["canaries"].model_validate({"texts": secrets})
    assert "no likelihood" in str(part.why_not(rows))
    monkeypatch.setattr(FunctionModel, "log_likelihoods", of_the_first)
    assert part.why_not(rows) is None
    together, known, other = part.run(rows).figures
    assert together.name == "canaries.rank"
    assert together.value == pytest.approx((1 / 500 + 1) / 2)
    assert known.value == pytest.approx(np.log2(500))
    assert known.p_value == pytest.approx(3 / 500)
    assert other.value == 0
    assert other.p_value == 1
    with pytest.raises(ValueError, match="digits"):
        AUDITS["canaries"].model_validate({"texts": ["my secret"]})


def test_many_secrets_that_are_all_known_are_an_alarm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Corrected for so many, no rank among 99 copies is surprising by itself."""
    secrets = [f"my pin is {at:05}" for at in range(30)]
    monkeypatch.setattr(
        FunctionModel, "log_likelihoods", lambda self, texts: np.array([float(text in secrets) for text in texts])
    )
    rows = audited(lambda text: [0.5, 0.5], ["x"] * 30, ["good"] * 30)
    together, *others = AUDITS["canaries"].model_validate({"texts": secrets, "others": 99}).run(rows).figures
    assert together.p_value < 1e-6  # type: ignore[operator]
    assert all(each.p_value > 0.05 for each in others)  # type: ignore[operator]
    monkeypatch.setattr(FunctionModel, "log_likelihoods", lambda self, texts: np.zeros(len(texts)))
    assert AUDITS["canaries"].model_validate({"texts": secrets}).run(rows).figures[0].p_value == 1

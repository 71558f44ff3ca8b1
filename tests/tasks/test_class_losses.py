"""Focal loss and thresholds of several labels, against their definitions; and a run that chooses thresholds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from sklearn.metrics import f1_score
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

import peftlab
from peftlab.core.errors import ConfigError
from peftlab.core.reporter import PlainReporter
from peftlab.inference.export.export import export_run
from peftlab.tasks._class_losses import binary_focal_terms, focal_loss
from peftlab.tasks._thresholds import best_threshold, thresholds
from peftlab.tasks._weights import weights_like
from peftlab.tasks.text_classification import TextClassification
from tests.conftest import sentences


def test_focal_loss_is_the_papers() -> None:
    logits, targets, weight = torch.randn(7, 4), torch.tensor([0, 1, 2, 3, 0, 1, 2]), torch.tensor([1.0, 2.0, 0.5, 3.0])
    plain = functional.cross_entropy(logits, targets, weight=weight, reduction="sum")
    assert torch.allclose(focal_loss(logits, targets, 0.0, weight), plain)
    right = logits.softmax(dim=1)[torch.arange(7), targets]
    assert torch.allclose(focal_loss(logits, targets, 2.0), (-((1 - right) ** 2) * right.log()).sum())
    of_labels = torch.randint(0, 2, (7, 4)).float()
    p = torch.where(of_labels == 1, logits.sigmoid(), 1 - logits.sigmoid())
    assert torch.allclose(binary_focal_terms(logits, of_labels, 2.0), -((1 - p) ** 2) * p.log(), atol=1e-5)


def test_focal_loss_is_no_cross_entropy_and_takes_weights() -> None:
    task = TextClassification(focal_gamma=2.0)
    assert not task.has_class_targets
    assert task.takes_class_weights
    batch = {"labels": torch.tensor([0, 1])}
    logits = torch.tensor([[2.0, -1.0], [0.3, 0.1]])
    assert torch.equal(task.loss(logits, batch), focal_loss(logits, batch["labels"], 2.0))


def test_weights_are_not_copied_to_a_card_in_each_step() -> None:
    asked: list[str] = []

    class Watch(TorchDispatchMode):  # type: ignore[no-untyped-call] # torch leaves its class untyped
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            asked.append(str(func))
            return func(*args, **(kwargs or {}))

    task = TextClassification().with_class_weights((1.0, 0.1, 3.0))
    with Watch():
        found = weights_like(torch.empty(2, 3, dtype=torch.float16, device="meta"), task)
    assert found is not None
    assert (found.device.type, found.dtype, found.shape) == ("meta", torch.float32, (3,))
    assert set(asked) == {"aten.empty.memory_format", "aten.new_full.default", "aten.cat.default"}
    on_cpu = weights_like(torch.empty(2, 3), task)
    filled = torch.cat([torch.empty(2, 3).new_full((1,), weight) for weight in task.class_weights or ()])
    assert on_cpu is not None
    assert torch.equal(on_cpu, filled)


def test_no_threshold_has_a_better_f1() -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(60, 2, generator=generator).double().numpy()
    carried = [[name for name, on in zip("ab", row > [0.8, 0.3], strict=True) if on] for row in scores[:, ::-1]]
    found = thresholds(scores.tolist(), carried, ["a", "b"])
    for at, name in enumerate("ab"):
        truth = [name in own for own in carried]
        of_grid = [f1_score(truth, scores[:, at] > limit) for limit in torch.linspace(0, 0.99, 100).tolist()]
        assert f1_score(truth, scores[:, at] > found[name]) >= max(of_grid)
    assert thresholds([[0.2], [0.7]], [[], []], ["c"]) == {"c": 0.5}
    assert thresholds([[0.2], [0.9]], [[], ["c"]], ["c"]) == {"c": 0.5}


def test_thresholds_of_many_rows_take_no_table_of_rows_by_rows() -> None:
    scores = torch.linspace(0.01, 0.99, 200_000, dtype=torch.float64).numpy()
    assert best_threshold(scores, scores > 0.75) == pytest.approx(0.75, abs=1e-5)


def test_thresholds_go_with_the_run_and_its_exports(tiny_bert: Path, tmp_path: Path) -> None:
    rows = [{"text": text, "label": [label] if at % 3 else []} for at, (text, label) in enumerate(sentences(48))]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = peftlab.Recipe(
        model={"path": str(tiny_bert)},
        task={"type": "text_classification", "multi_label": True, "thresholds": "validation", "max_length": 16},
        data={"source": str(tmp_path / "rows.jsonl"), "validation_fraction": 0.25, "test_fraction": 0.25},
        method={"type": "linear_probe"},
        training={"max_steps": 4, "batch_size": 8},
        evaluation={"metric": "micro_f1"},
    )
    result = peftlab.run_recipe(recipe, output_dir=tmp_path / "run")
    assert result.record.status == "success", result.record.error
    known = result.record.learned["thresholds"]
    assert set(known) == {"bad", "good"}
    assert known != {"bad": 0.5, "good": 0.5}
    loaded = peftlab.load(tmp_path / "run")
    tuned, texts = loaded.tuned, [row["text"] for row in rows[:12]]
    said = [answer["prediction"] for answer in loaded.predict(texts)]
    assert any(said)
    # The stored thresholds are of scores without a temperature; with any temperature the labels stay the same.
    hot = peftlab.load(tmp_path / "run")
    object.__setattr__(hot.tuned, "temperature", 3.0)
    assert [answer["prediction"] for answer in hot.predict(texts)] == said
    assert tuned.task.learned["thresholds"] == known
    description = export_run(tmp_path / "run", "merged", tmp_path / "merged", offline=True, reporter=PlainReporter())
    assert description.learned["thresholds"] == known
    assert [answer["prediction"] for answer in peftlab.load(tmp_path / "merged").predict(texts)] == said
    assert "above its threshold: bad" in (tmp_path / "merged" / "README.md").read_text()


def test_thresholds_are_for_several_labels() -> None:
    with pytest.raises(ConfigError, match="several labels per text"):
        TextClassification(thresholds="validation")

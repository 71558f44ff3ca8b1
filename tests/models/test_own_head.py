"""A base that is a classifier already: its rows are matched by the names of its classes, or a new head starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from peftlab.core.task import Head
from peftlab.core.tensors import output_layer
from peftlab.models.base_model import BaseModel, load_base_model
from peftlab.models.model_config import ModelConfig
from peftlab.tasks.text_classification import TextClassification
from peftlab.tasks.text_regression import TextRegression
from peftlab.tasks.token_classification import TokenClassification

LABELS = ("negative", "neutral", "positive")


def save(folder: Path, base: Path, kind: str, names: list[str] | None, **config: Any) -> dict[str, torch.Tensor]:
    """A classifier on a tiny base, whose rows are told apart by their bias; returns weight and bias of each name."""
    auto = getattr(transformers, f"AutoModelFor{kind}")
    count = config.pop("num_labels", 3 if names is None else len(names))
    model = auto.from_pretrained(base, num_labels=count)
    if names is not None:
        model.config.id2label = dict(enumerate(names))
        model.config.label2id = {name: row for row, name in enumerate(names)}
    for key, value in config.items():
        setattr(model.config, key, value)
    layer = output_layer(model, count)
    assert layer is not None
    with torch.no_grad():
        layer.weight.normal_()
        if layer.bias is not None:
            layer.bias.copy_(torch.arange(count) + 1.0)
    model.save_pretrained(folder)
    return {name: layer.weight[row].detach().clone() for row, name in enumerate(names or map(str, range(count)))}


def load(folder: Path, head: Head) -> BaseModel:
    torch.manual_seed(0)
    return load_base_model(
        str(folder), ModelConfig(path=str(folder)), head,
        dtype=torch.float32, dropout=0.0, pad_token_id=0, offline=True,
    )  # fmt: skip


def rows_of(base: BaseModel, count: int = 3) -> torch.Tensor:
    layer = output_layer(base.model, count)
    assert layer is not None
    return layer.weight.detach()


@pytest.mark.parametrize("kind", ["tiny_bert", "tiny_gpt2"])
@pytest.mark.parametrize(
    "names",
    [
        ["negative", "neutral", "positive"],
        ["positive", "negative", "neutral"],
        ["NEUTRAL", "Positive ", "NEGATIVE"],
    ],
)
def test_rows_are_put_in_the_order_of_the_labels(
    tmp_path: Path, request: pytest.FixtureRequest, names: list[str], kind: str
) -> None:
    weights = save(tmp_path, request.getfixturevalue(kind), "SequenceClassification", names)
    base = load(tmp_path, TextClassification().head(LABELS))
    by_label = {name.strip().lower(): weight for name, weight in weights.items()}
    assert torch.equal(rows_of(base), torch.stack([by_label[label] for label in LABELS]))
    assert "is kept" in base.own_head
    assert ("in the same order" in base.own_head) is (names == list(LABELS))
    assert base.model.config.id2label == dict(enumerate(LABELS))


def test_tags_too(tmp_path: Path, tiny_bert: Path) -> None:
    weights = save(tmp_path, tiny_bert, "TokenClassification", ["I-X", "O", "B-X"])
    base = load(tmp_path, TokenClassification().head(("O", "B-X", "I-X")))
    assert torch.equal(rows_of(base), torch.stack([weights[tag] for tag in ("O", "B-X", "I-X")]))


@pytest.mark.parametrize(
    ("names", "settings", "task", "said"),
    [
        (None, {}, TextClassification(), "have no names"),
        (["bad", "so so", "good"], {}, TextClassification(), "are bad, so so, good"),
        (["Neutral", "neutral", "positive"], {}, TextClassification(), "not those of the data"),
        (list(LABELS), {"problem_type": "multi_label_classification"}, TextClassification(), "not single_label"),
        (["bad", "good"], {}, TextClassification(), "another number of outputs"),
    ],
)  # fmt: skip
def test_a_head_of_other_classes_is_left_out(
    tmp_path: Path, tiny_bert: Path, names: list[str] | None, settings: dict[str, Any], task: Any, said: str
) -> None:
    weights = save(tmp_path, tiny_bert, "SequenceClassification", names, **settings)
    base, again = (load(tmp_path, task.head(LABELS)) for _ in range(2))
    assert said in base.own_head
    assert "a new one starts" in base.own_head
    assert torch.equal(rows_of(base), rows_of(again))
    assert rows_of(base).std() > 0
    assert not any(torch.equal(row, weight) for row in rows_of(base) for weight in weights.values())
    assert "classifier" in base.head_modules


def test_a_base_without_a_head_says_nothing(tiny_bert: Path) -> None:
    assert load(tiny_bert, TextClassification().head(LABELS)).own_head == ""


def test_a_regressor_is_no_classifier_and_the_other_way_round(tmp_path: Path, tiny_bert: Path) -> None:
    save(tmp_path / "r", tiny_bert, "SequenceClassification", ["x"], problem_type="regression")
    classes = load(tmp_path / "r", TextClassification(multi_label=True).head(("x",)))
    assert "a new one starts" in classes.own_head
    save(tmp_path / "c", tiny_bert, "SequenceClassification", ["x"])
    assert "not one of regression" in load(tmp_path / "c", TextRegression().head(())).own_head


@pytest.mark.parametrize("own", [{}, {"target_mean": 10.0, "target_scale": 4.0}])
def test_a_regressors_outputs_get_the_unit_of_the_new_targets(
    tmp_path: Path, tiny_bert: Path, own: dict[str, float]
) -> None:
    save(tmp_path, tiny_bert, "SequenceClassification", ["x"], problem_type="regression", **own)
    before = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    base = load(tmp_path, TextRegression().fitted({"target_mean": 2.0, "target_scale": 0.5}).head(()))
    ids = torch.tensor([[2, 5, 6, 3]])
    with torch.no_grad():
        old = before(input_ids=ids).logits * own.get("target_scale", 1.0) + own.get("target_mean", 0.0)
        new = base.model(input_ids=ids).logits * 0.5 + 2.0
    assert torch.allclose(old, new, atol=1e-4)
    assert "is kept" in base.own_head
    assert base.model.config.target_mean == 2.0


def test_a_decoders_regressor_without_a_bias_starts_anew(tmp_path: Path, tiny_gpt2: Path) -> None:
    save(tmp_path, tiny_gpt2, "SequenceClassification", ["x"], problem_type="regression")
    assert (
        "has no bias"
        in load(tmp_path, TextRegression().fitted({"target_mean": 2.0, "target_scale": 1.0}).head(())).own_head
    )

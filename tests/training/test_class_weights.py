"""Rare classes can count as much as frequent ones: ``training.class_weights``."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight
from transformers import AutoTokenizer

from peftlab.core.errors import ConfigError, UnsupportedError
from peftlab.core.splits import Split
from peftlab.preparation.check import check_recipe
from peftlab.recipe.schema import load_recipe
from peftlab.run.run import run_recipe
from peftlab.tasks.text_classification import TextClassification
from peftlab.tasks.token_classification import TokenClassification
from peftlab.training.class_weights import weighted_task

NAMES = ("a", "b", "c", "d")


@given(st.lists(st.integers(0, 3), min_size=1, max_size=50))
def test_balanced_is_what_scikit_learn_means_by_it(found: list[int]) -> None:
    task = weighted_task(TextClassification(), "balanced", [{"label": each} for each in found], NAMES)
    present = sorted(set(found))
    expected = dict(zip(present, compute_class_weight("balanced", classes=np.array(present), y=found), strict=True))
    assert task.class_weights == pytest.approx([expected.get(index, 1.0) for index in range(4)])


def test_the_loss_is_torchs_weighted_one() -> None:
    torch.manual_seed(0)
    weights = (0.5, 1.0, 2.0, 4.0)
    logits, labels = torch.randn(6, 4), torch.tensor([0, 1, 2, 3, 3, 0])
    plain = torch.nn.CrossEntropyLoss(torch.tensor(weights), reduction="sum")
    texts = TextClassification().with_class_weights(weights)
    assert torch.equal(texts.loss(logits, {"labels": labels}), plain(logits, labels))
    tags = TokenClassification().with_class_weights(weights)
    with_gaps = torch.where(torch.arange(6) == 1, -100, labels)[None]
    assert torch.allclose(tags.loss(logits[None], {"labels": with_gaps}), plain(logits, with_gaps[0]))


def test_each_word_counts_once_however_many_tokens_it_has(tiny_bert: Path) -> None:
    """On rows as the task encodes them: pieces of a word and what stands around a text have no tag."""
    labels, plain = ("O", "B-X"), TokenClassification()
    columns = {"tokens": [["a", "incomprehensible", "town"]], "tags": [["O", "B-X", "O"]]}
    rows = Split("train", range(1), columns, "rows.csv")
    examples = plain.encode(rows, AutoTokenizer.from_pretrained(tiny_bert), labels).examples
    assert len(examples[0]["input_ids"]) > 5
    task = weighted_task(plain, "balanced", examples, labels)
    assert task.class_weights == pytest.approx((0.75, 1.5))


RECIPE = """\
model: {{path: {model}}}
task: {{type: {task}, max_length: 24}}
data: {{source: {data}, validation_fraction: 0.25, test_fraction: 0.25}}
method: {{type: lora, rank: 2}}
measure: false
evaluation: {{metric: {metric}}}
training: {{max_steps: 60, batch_size: 8, learning_rate: 5.0e-3, class_weights: {weights}, log_every_steps: 1}}
waive_guards: [answers_vary]
"""


@pytest.fixture
def rare(tmp_path: Path) -> Path:
    """One text in ten is of the rare class, and nothing in the texts tells which."""
    path = tmp_path / "rare.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("text", "label"))
        writer.writerows((f"number {row} is here", "rare" if row % 10 == 0 else "usual") for row in range(200))
    return path


def run(tmp_path: Path, model: Path, data: Path, weights: str) -> list[float]:
    path = tmp_path / f"weights-{len(weights)}.yaml"
    text = RECIPE.format(model=model, task="text_classification", data=data, metric="macro_f1", weights=weights)
    path.write_text(text)
    folder = tmp_path / path.stem
    assert run_recipe(*load_recipe(path), output_dir=folder).record.status == "success"
    rows = pyarrow.parquet.read_table(folder / "predictions.parquet").to_pylist()
    return [row["scores"][0] for row in rows if row["split"] == "test"]


@pytest.mark.slow
def test_weights_move_what_a_model_says_of_rare_classes(tmp_path: Path, tiny_bert: Path, rare: Path) -> None:
    plain, balanced = (run(tmp_path, tiny_bert, rare, weights) for weights in ("null", "balanced"))
    assert sum(balanced) / len(balanced) > sum(plain) / len(plain) + 0.15


def test_what_cannot_be_weighed_is_refused(tmp_path: Path, tiny_bert: Path, rare: Path) -> None:
    path = tmp_path / "recipe.yaml"
    text = RECIPE.format(
        model=tiny_bert, task="text_classification", data=rare, metric="macro_f1", weights="{rear: 2.0}"
    )
    path.write_text(text)
    with pytest.raises(ConfigError, match="no class `rear`") as caught:
        check_recipe(*load_recipe(path), offline=True)
    assert caught.value.where is not None
    assert ":7: training.class_weights" in caught.value.where
    assert "rare" in str(caught.value.hint)
    numbers = tmp_path / "numbers.csv"
    numbers.write_text("text,label\n" + "".join(f"text {row},{row / 7}\n" for row in range(40)))
    path.write_text(
        RECIPE.format(model=tiny_bert, task="text_regression", data=numbers, metric="null", weights="balanced")
    )
    with pytest.raises(UnsupportedError, match="no classes to weigh"):
        check_recipe(*load_recipe(path), offline=True)

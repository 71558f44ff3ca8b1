"""Few labels: the contrastive loss and the fitted head against references; rows drawn by class; bad settings."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import pytest
import torch
from sklearn.linear_model import LogisticRegression
from transformers import AutoTokenizer

import peftlab
from peftlab.core.errors import DataError, UserError
from peftlab.core.splits import Split
from peftlab.core.task import TASKS
from peftlab.data.cutting import cap_splits
from peftlab.data.data_config import DataConfig
from peftlab.data.row_rules import RowRules
from peftlab.tasks._embedding_losses import supervised_contrastive
from peftlab.tasks._logistic import fit_logistic


def test_the_contrastive_loss_is_that_of_the_paper() -> None:
    vectors = torch.nn.functional.normalize(torch.randn(7, 5, generator=torch.Generator().manual_seed(0)), dim=-1)
    labels = torch.tensor([0, 1, 0, 2, 1, 0, 3])
    expected = 0.0
    for i in range(7):
        others = [j for j in range(7) if j != i]
        whole = sum(math.exp(float(vectors[i] @ vectors[j]) / 0.3) for j in others)
        alike = [j for j in others if labels[j] == labels[i]]
        terms = [math.log(math.exp(float(vectors[i] @ vectors[j]) / 0.3) / whole) for j in alike]
        expected -= sum(terms) / max(1, len(terms))
    assert float(supervised_contrastive(vectors, labels, temperature=0.3)) == pytest.approx(expected, rel=1e-5)


def test_copies_of_a_text_count_nothing_for_one_another() -> None:
    """Else a partner that stands in the batch by itself would hide all wrong texts from its copy."""
    vectors = torch.nn.functional.normalize(torch.randn(6, 5, generator=torch.Generator().manual_seed(0)), dim=-1)
    texts, labels = torch.tensor([0, 1, 2, 3, 0, 1]), torch.tensor([0, 0, 1, 1, 0, 0])
    vectors = vectors[texts]
    expected = 0.0
    for i in range(6):
        others = [j for j in range(6) if texts[j] != texts[i]]
        whole = sum(math.exp(float(vectors[i] @ vectors[j]) / 0.1) for j in others)
        terms = [float(vectors[i] @ vectors[j]) / 0.1 - math.log(whole) for j in others if labels[j] == labels[i]]
        expected -= sum(terms) / len(terms)
    same_text = texts[:, None] == texts[None, :]
    found = supervised_contrastive(vectors, labels, temperature=0.1, same_text=same_text)
    assert float(found) == pytest.approx(expected, rel=1e-5)
    alone = vectors[:1].repeat(2, 1).requires_grad_()
    nothing = supervised_contrastive(alone, labels[:2], temperature=0.1, same_text=torch.ones(2, 2, dtype=torch.bool))
    nothing.backward()
    assert float(nothing.detach()) == 0
    assert torch.equal(alone.grad, torch.zeros(2, 5))


def test_the_head_is_that_of_scikit_learn() -> None:
    draws = torch.Generator().manual_seed(1)
    labels = torch.arange(40) % 3
    vectors = torch.randn(40, 6, generator=draws) + torch.nn.functional.one_hot(labels, 6)
    scale = vectors.norm(dim=1).mean()
    theirs = LogisticRegression(C=2.0, tol=1e-8, max_iter=1000).fit((vectors / scale).numpy(), labels.numpy())
    with torch.inference_mode():  # as it is called
        weights, bias = fit_logistic(vectors, labels, 3, strength=2.0)
    ours = (vectors @ weights.T + bias).softmax(dim=1)
    assert ours.numpy() == pytest.approx(theirs.predict_proba((vectors / scale).numpy()), abs=1e-4)


def test_rows_are_drawn_of_each_class() -> None:
    labels = ["a"] * 9 + ["b"] * 4 + ["c"]
    train = Split("train", range(14), {"text": [f"text {at}" for at in range(14)], "label": labels})
    task = TASKS["text_classification"]()
    rules = RowRules(text_columns=("text",), label_columns=("label",), strata=task.strata)

    def drawn(count: int, seed: int) -> list[int]:
        config = DataConfig(source="x.csv", max_train_examples_per_class=count)
        return list(cap_splits({"train": train}, config, seed, rules)["train"].index)

    few, more = drawn(2, 0), drawn(3, 0)
    assert sorted(labels[at] for at in few) == ["a", "a", "b", "b", "c"]
    assert set(few) < set(more)
    assert any(drawn(2, 0) != drawn(2, seed) for seed in range(1, 4))


def test_pairs_are_of_one_class(tiny_bert: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_bert)
    task = TASKS["few_shot_classification"]()
    split = Split("train", range(4), {"text": ["good day", "bad day", "good film", "awful town"], "label": [*"abab"]})
    examples = task.encode(split, tokenizer, ("a", "b")).examples
    batch = task.collate(examples[:3], 0)
    assert batch["labels"].tolist() == [0, 1, 0, 0, 1, 0]
    own = {tuple(example["input_ids"]): example["label"] for example in examples}
    rows = [
        tuple(row[mask.bool()].tolist()) for row, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True)
    ]
    assert [own[row] for row in rows] == batch["labels"].tolist()
    assert all(left != right for left, right in itertools.pairwise([rows[0], rows[3]]))


def test_what_a_class_is_called_is_a_partner_of_its_texts(tiny_bert: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_bert)
    split = Split(
        "train", range(3), {"text": ["good day", "bad day", "good film"], "label": ["up_top", "low", "up_top"]}
    )
    for given, wanted in (("names", "up top"), ({"low": "down", "up_top": "above"}, "above")):
        task = TASKS["few_shot_classification"](class_texts=given)
        examples = task.encode(split, tokenizer, ("low", "up_top")).examples
        assert tokenizer.decode(examples[0]["class_text"]["input_ids"], skip_special_tokens=True) == wanted
        assert examples[0]["partners"][-1] == examples[2]["partners"][-1] == examples[0]["class_text"]
        assert len(examples[0]["partners"]) == 2
        validation = Split("validation", split.index, split.columns)
        assert "class_text" not in task.encode(validation, tokenizer, ("low", "up_top")).examples[0]


@pytest.mark.parametrize("class_texts", [None, {"a": "awful town", "b": "good day out"}])
def test_the_head_is_fitted_to_what_a_class_is_called(tiny_bert: Path, tmp_path: Path, class_texts: object) -> None:
    (tmp_path / "t.csv").write_text("text,label\n" + "good day,a\ngood film,a\nbad town,b\nawful film,b\n" * 3)
    task = {"type": "few_shot_classification", "head_strength": 1e4, "max_length": 32, "class_texts": class_texts}
    recipe = peftlab.Recipe.from_dict(
        {
            "name": "few",
            "model": {"path": str(tiny_bert)},
            "task": task,
            "data": {"source": {"train": str(tmp_path / "t.csv")}, "validation_fraction": 0, "test_fraction": 0},
            "method": {"type": "lora"},
            "training": {"max_steps": 1, "batch_size": 4, "learning_rate": 1e-4},
            "waive_guards": ["answers_vary"],
        }
    )
    run = peftlab.run_recipe(recipe, output_dir=tmp_path / "run")
    assert run.record.status == "success", run.record.error
    predictions = [
        each["prediction"] for each in peftlab.load(tmp_path / "run").predict(["awful town", "good day out"])
    ]
    assert (predictions == ["a", "b"]) == (class_texts is not None)


@pytest.mark.parametrize(
    ("class_texts", "message"),
    [
        ({"a": "good", "c": "bad"}, "`c` is no class"),
        ({"a": "good"}, "'b' has no text"),
        ({"a": "good", "b": " "}, "'b' has no text"),
        ({"a": "good", "b": "good "}, "'a' and 'b' have the same text, `good`"),
    ],
)
def test_each_class_is_called_something(class_texts: dict[str, str], message: str) -> None:
    split = Split("train", range(2), {"text": ["good day", "bad day"], "label": ["a", "b"]})
    task = TASKS["few_shot_classification"](class_texts=class_texts)
    with pytest.raises(DataError, match=message) as caught:
        task.check_split(split, ("a", "b"))
    assert caught.value.where == "task.class_texts"


def test_what_it_cannot_do_is_said() -> None:
    values = {"model": {"path": "x"}, "data": {"source": "x.csv"}, "method": {"type": "lora"}}
    with pytest.raises(UserError, match="one class here"):
        peftlab.Recipe.from_dict({**values, "task": {"type": "few_shot_classification", "multi_label": True}})
    own = {"type": "few_shot_classification", "text": ["a", "b"], "class_texts": "names"}
    with pytest.raises(UserError, match="two columns"):
        peftlab.Recipe.from_dict({**values, "task": own})

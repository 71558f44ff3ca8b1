"""Classes, pairs, several labels; and one vector of logits per text from the right position."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from peftlab.core.errors import ConfigError, DataError, UnsupportedError
from peftlab.core.model_facts import ModelFacts
from peftlab.core.splits import Split
from peftlab.core.task import Task
from peftlab.tasks.causal_lm import CausalLm
from peftlab.tasks.masked_lm import MaskedLm
from peftlab.tasks.text_classification import TextClassification
from peftlab.tasks.text_pair_classification import TextPairClassification
from peftlab.tasks.text_regression import TextRegression


def split(name: str = "train", **columns: list) -> Split:
    return Split(name, list(range(len(next(iter(columns.values()))))), columns, source="rows.csv")


def facts(**changes) -> ModelFacts:
    values = {"path": "m", "model_type": "bert", "family": "encoder", "config": {"max_position_embeddings": 64}}
    return ModelFacts(**{**values, **changes})


def test_classes_are_sorted_as_numbers_or_as_words() -> None:
    task = TextClassification()
    assert task.learn_labels(split(text=["a"] * 3, label=["10", "9", "9"])) == ("9", "10")
    assert task.learn_labels(split(text=["a"] * 3, label=["b", "a", "b"])) == ("a", "b")
    assert task.learn_labels(split(text=["a"] * 2, label=[True, False])) == ("False", "True")


def test_one_class_is_too_few() -> None:
    with pytest.raises(DataError, match=r"rows\.csv, column `label`.*two classes are needed"):
        TextClassification().learn_labels(split(text=["a", "b"], label=["x", "x"]))


def test_an_unseen_label_is_named_with_its_row() -> None:
    with pytest.raises(DataError, match=r"rows\.csv, row 2: the label 'negtive' of the test split"):
        TextClassification().check_split(split("test", text=["a", "b"], label=["x", "negtive"]), ("x", "negative"))


def test_several_labels_in_three_notations(tiny_bert: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_bert)
    expected = [[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]]
    texts = ["good day", "bad film", "the town"]
    notations = [
        (TextClassification(multi_label=True), {"label": ["joy", "joy, rage", ""]}),
        (TextClassification(multi_label=True), {"label": [["joy"], ["joy", "rage"], []]}),
        (TextClassification(label=["joy", "rage"]), {"joy": ["1", "1", "0"], "rage": [0, True, "false"]}),
    ]
    for task, columns in notations:
        rows = split(text=texts, **columns)
        labels = task.learn_labels(rows)
        task.check_split(rows, labels)
        assert labels == ("joy", "rage")
        encoded = task.encode(rows, tokenizer, labels)
        assert [example["label"] for example in encoded.examples] == expected
        batch = task.collate(encoded.examples, 0)
        predictions = task.predict(torch.tensor([[3.0, -3.0], [3.0, 3.0], [-3.0, -3.0]]), batch, labels)
        assert [item.prediction for item in predictions] == [["joy"], ["joy", "rage"], []]
        assert [item.label for item in predictions] == [["joy"], ["joy", "rage"], []]
        assert task.loss_terms(batch) == 3
        expected_loss = torch.nn.functional.binary_cross_entropy_with_logits(
            torch.zeros(3, 2), batch["labels"], reduction="mean"
        )
        assert float(task.loss(torch.zeros(3, 2), batch)) == pytest.approx(3 * float(expected_loss))


def test_columns_of_several_labels_hold_zero_or_one() -> None:
    with pytest.raises(DataError, match="0 or 1 is needed"):
        TextClassification(label=["a", "b"]).check_split(split(text=["x"], a=["2"], b=["0"]), ("a", "b"))


def test_pairs_are_tokenised_together(tiny_bert: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_bert)
    task = TextPairClassification(text=["premise", "hypothesis"])
    rows = split(premise=["a good day", "it"], hypothesis=["sad town", "was bad"], label=["x", "y"])
    first = task.encode(rows, tokenizer, ("x", "y")).examples[0]
    assert tokenizer.decode(first["input_ids"]) == "[CLS] a good day [SEP] sad town [SEP]"
    assert first["token_type_ids"] == [0] * 5 + [1] * 3


def test_a_pair_needs_two_columns() -> None:
    with pytest.raises(ValueError, match="two columns"):
        TextPairClassification(text="premise")
    with pytest.raises(ValueError, match="one column, or two"):
        TextClassification(text=["a", "b", "c"])


def test_lengths_and_families_that_cannot_be() -> None:
    TextClassification(max_length=64).check(facts())
    with pytest.raises(ConfigError, match="positions for 64 tokens"):
        TextClassification(max_length=65).check(facts())
    with pytest.raises(UnsupportedError, match="encoder-decoder"):
        TextClassification(max_length=8).check(facts(family="encoder_decoder"))


@pytest.mark.parametrize("task", [TextClassification(), MaskedLm(), CausalLm()], ids=lambda task: task.registered_name)
def test_a_list_is_no_text(task: Task) -> None:
    """A tokenizer takes a list of two for a pair of texts, and fails for another one."""
    rows = split(text=["fine", ["a", "b"]], label=["x", "y"])
    with pytest.raises(DataError, match=r"row 2: the column `text` is no text: \['a', 'b'\]"):
        task.check_split(task.tidy_rows(rows), ("x", "y"))


def test_targets_are_finite_numbers() -> None:
    task = TextRegression(label="score")
    rows = split(text=["a", "b"], score=["1.5", 2])
    task.check_split(rows, ())
    for wrong in ("high", "nan", None, "inf", 10**400):
        with pytest.raises(DataError, match=r"rows\.csv, row 1.*not a finite number"):
            task.check_split(split(text=["a"], score=[wrong]), ())
    with pytest.raises(DataError, match="same target"):
        task.learn_labels(split(text=["a", "b"], score=[1, "1.0"]))


@pytest.mark.parametrize("name", ["tiny_bert", "tiny_gpt2"])
def test_padding_does_not_change_a_texts_logits(name: str, request: pytest.FixtureRequest) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    folder = request.getfixturevalue(name)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=2, pad_token_id=pad).eval()
    task = TextClassification()
    # The second text ends in the very token that pads.
    texts = ["it was a good day in town", "sad film<|endoftext|>", "we"]
    encoded = task.encode(split(text=texts, label=["x", "y", "x"]), tokenizer, ("x", "y"))
    together = task.logits(model, task.collate(encoded.examples, pad))
    for row, example in enumerate(encoded.examples):
        alone = task.logits(model, task.collate([example], pad))
        assert torch.allclose(together[row], alone[0], atol=1e-5)


@pytest.mark.parametrize("kind", ["PromptTuningConfig", "PromptEncoderConfig", "PrefixTuningConfig"])
def test_prompts_do_not_move_a_decoders_pooling(kind: str, tiny_gpt2: Path) -> None:
    """transformers pools a padding position when prompts hide ``input_ids`` from it."""
    import peft
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_gpt2)
    pad = tokenizer.eos_token_id
    base = AutoModelForSequenceClassification.from_pretrained(tiny_gpt2, num_labels=2, pad_token_id=pad)
    model = peft.get_peft_model(base, getattr(peft, kind)(task_type="SEQ_CLS", num_virtual_tokens=3)).eval()
    task = TextClassification()
    encoded = task.encode(split(text=["it was a good day", "we"], label=["x", "y"]), tokenizer, ("x", "y"))
    together = task.logits(model, task.collate(encoded.examples, pad))
    alone = task.logits(model, task.collate(encoded.examples[1:], pad))
    assert torch.allclose(together[1], alone[0], atol=1e-5)

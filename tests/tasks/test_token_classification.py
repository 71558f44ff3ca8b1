"""Tags and tokens stay together, whatever the tokenizer does to the words."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from peftlab.core.errors import DataError
from peftlab.core.splits import Split
from peftlab.tasks.token_classification import IGNORED, NO_TOKEN, TokenClassification

ROWS = {
    "tokens": [["the", "happy", "town"], ["we", "saw", "zebra", "\u200b", "town"], ["it"] * 20],
    "tags": [["O", "O", "B-LOC"], ["O", "O", "B-ANIMAL", "O", "B-LOC"], ["O"] * 20],
}
LABELS = ("O", "B-ANIMAL", "B-LOC")


def split(rows=ROWS) -> Split:
    return Split("train", list(range(len(rows["tokens"]))), rows, source="rows.conll")


@pytest.fixture(scope="module")
def bert_tokenizer(tiny_bert: Path):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_bert)


@pytest.fixture(scope="module")
def gpt2_tokenizer(tiny_gpt2: Path):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_gpt2)


def test_outside_comes_first_among_the_labels() -> None:
    assert TokenClassification().learn_labels(split()) == LABELS


@pytest.mark.parametrize("name", ["bert_tokenizer", "gpt2_tokenizer"])
def test_each_word_is_tagged_at_its_first_token(name: str, request: pytest.FixtureRequest) -> None:
    tokenizer = request.getfixturevalue(name)
    task = TokenClassification(max_length=16)
    encoded = task.encode(split(), tokenizer, LABELS)
    for row, example in enumerate(encoded.examples):
        words = ROWS["tokens"][row]
        assert len(example["places"]) == len(words)
        for word, place, tag in zip(words, example["places"], example["tags"], strict=True):
            if place == NO_TOKEN:
                continue
            assert example["label"][place] == tag
            piece = tokenizer.decode([example["input_ids"][place]]).strip()
            # A byte-level tokenizer that does not know a word may begin it with its blank alone.
            assert word.startswith(piece.replace("##", "")) or word == "\u200b"
        assert sum(label != IGNORED for label in example["label"]) == sum(p != NO_TOKEN for p in example["places"])


def test_words_without_a_token_are_scored_as_outside_and_do_not_shift_the_others(bert_tokenizer) -> None:
    task = TokenClassification(max_length=16)
    encoded = task.encode(split(), bert_tokenizer, LABELS)
    # The zero-width space has no token in BERT, and 20 words do not fit into 16 tokens.
    assert encoded.examples[1]["places"][3] == NO_TOKEN
    assert encoded.notes["words_without_tokens"] == 1 + 6
    batch = task.collate(encoded.examples, 0)
    logits = torch.full((3, batch["input_ids"].shape[1], 3), -5.0)
    for row in range(3):
        for position in range(logits.shape[1]):
            label = int(batch["labels"][row, position])
            logits[row, position, max(label, 0)] = 5.0
    predictions = task.predict(logits, batch, LABELS)
    assert [item.label for item in predictions] == ROWS["tags"]
    assert [item.prediction for item in predictions] == ROWS["tags"]
    assert [len(item.scores) for item in predictions] == [3, 5, 20]
    assert predictions[1].scores[3] == 0.0
    scorer = task.scorer(LABELS)
    scorer.add(predictions)
    assert scorer.compute()["f1"] == 1.0


def test_loss_counts_words_not_tokens(bert_tokenizer) -> None:
    task = TokenClassification(max_length=16)
    batch = task.collate(task.encode(split(), bert_tokenizer, LABELS).examples, 0)
    terms = task.loss_terms(batch)
    assert terms == 3 + 4 + 14
    logits = torch.zeros(*batch["input_ids"].shape, 3)
    assert float(task.loss(logits, batch)) == pytest.approx(terms * torch.log(torch.tensor(3.0)).item(), rel=1e-5)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({"tokens": [["a", "b"]], "tags": [["O"]]}, "2 words, but 1 tags"),
        ({"tokens": [["a"]], "tags": [["B-LCO"]]}, "Did you mean `B-LOC`"),
        ({"tokens": [[]], "tags": [[]]}, "no words"),
        ({"tokens": [["a"]], "tags": [5]}, "holds 5, and no list of tags"),
    ],
)
def test_wrong_rows_are_named(rows: dict, message: str) -> None:
    with pytest.raises(DataError) as caught:
        TokenClassification().check_split(split(rows), LABELS)
    assert message in str(caught.value)
    assert "rows.conll, row 1" in str(caught.value)


def test_strings_are_cut_at_blanks() -> None:
    task = TokenClassification()
    rows = {"tokens": ["we saw it"], "tags": ["O O B-LOC"]}
    task.check_split(split(rows), LABELS)
    assert task.learn_labels(split(rows)) == ("O", "B-LOC")

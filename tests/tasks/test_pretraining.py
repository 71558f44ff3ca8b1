"""Raw text: every token predicted once; whole words masked; perplexity with an interval that covers."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from language_models import Reading, tiny_decoder

from peftlab.core.splits import Split
from peftlab.core.task import Prediction
from peftlab.tasks.causal_lm import CausalLm
from peftlab.tasks.language.perplexity import PerplexityScorer
from peftlab.tasks.masked_lm import MaskedLm
from peftlab.testing.tiny_bases import NEUTRAL

WORDS = [*NEUTRAL, "good", "bad", "lovely", "unheard"]


def text_split(name: str, rows: int = 30) -> Split:
    generator = random.Random(2)
    texts = [" ".join(generator.choices(WORDS, k=generator.randint(1, 40))) for _ in range(rows)]
    return Split(name, list(range(rows)), {"text": texts}, "corpus.txt")


@pytest.mark.parametrize("length", [2, 7, 64, 5000])
def test_every_token_but_the_first_is_predicted_once(tiny_gpt2, length: int) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_gpt2)
    split = text_split("train")
    task = CausalLm(max_length=length)
    found = task.encode(split, tokenizer, ())
    stream = [
        token for text in split.columns["text"] for token in [*tokenizer(text)["input_ids"], tokenizer.eos_token_id]
    ]
    predicted = [label for example in found.examples for label in example["labels"] if label != -100]
    assert predicted == stream[1:]
    assert found.notes["tokens"] == len(stream)
    assert max(task.lengths(found.examples)) <= length


def test_blocks_know_the_row_that_they_begin_in(tiny_gpt2) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_gpt2)
    split = text_split("train")
    found = CausalLm(max_length=10).encode(split, tokenizer, ())
    assert found.index[0] == 0
    assert list(found.index) == sorted(found.index)
    assert found.index[-1] in (28, 29)


def test_masks_hide_whole_words(tiny_bert) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_bert)
    split = text_split("test", rows=200)  # "unheard" is split into letters by this tokenizer
    found = MaskedLm(max_length=40, mask_fraction=0.3).encode(split, tokenizer, ())
    masked = total = 0
    for example in found.examples:
        true = [
            label if label != -100 else token
            for token, label in zip(example["input_ids"], example["labels"], strict=True)
        ]
        pieces = tokenizer.convert_ids_to_tokens(true)
        for place in range(1, len(true)):
            if pieces[place].startswith("##") and not pieces[place - 1].startswith("["):
                assert (example["labels"][place] == -100) == (example["labels"][place - 1] == -100)
        masked += sum(label != -100 for label in example["labels"])
        total += sum(not piece.startswith("[") for piece in pieces)
        assert example["labels"][0] == example["labels"][-1] == -100
    assert masked / total == pytest.approx(0.3, abs=0.05)


def test_masks_of_training_change_and_those_of_a_test_do_not(tiny_bert) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_bert)
    task = MaskedLm(max_length=40)
    train, test = (task.encode(text_split(name), tokenizer, ()) for name in ("train", "test"))
    torch.manual_seed(0)
    first, second = (task.collate(train.examples[:8], 0) for _ in range(2))
    torch.manual_seed(0)
    again = task.collate(train.examples[:8], 0)
    assert torch.equal(first["input_ids"], again["input_ids"])
    assert not torch.equal(first["labels"], second["labels"])
    assert [test.examples[at] for at in range(len(test))] == list(test.examples)


def test_what_is_masked_is_mostly_the_mask_token(tiny_bert) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_bert)
    found = MaskedLm(max_length=60, mask_fraction=0.5).encode(text_split("test", rows=400), tokenizer, ())
    pairs = [
        (token, label)
        for example in found.examples
        for token, label in zip(example["input_ids"], example["labels"], strict=True)
        if label != -100
    ]
    hidden = sum(token == tokenizer.mask_token_id for token, _ in pairs) / len(pairs)
    kept = sum(token == label for token, label in pairs) / len(pairs)
    assert hidden == pytest.approx(0.8, abs=0.05)
    assert kept == pytest.approx(0.1, abs=0.04)


def test_perplexity_is_that_of_the_models_own_loss(tiny_gpt2) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_gpt2)
    task = CausalLm(max_length=16)
    found = task.encode(text_split("test"), tokenizer, ())
    model = tiny_decoder("gpt2")
    model.resize_token_embeddings(len(tokenizer))
    scorer = task.scorer(())
    total = count = 0.0
    with torch.inference_mode():
        for example in found.examples:
            scorer.add(task.predict_examples(model, [example], 0, Reading(tokenizer)))
            ids = torch.tensor([example["input_ids"]])
            total += float(model(input_ids=ids, labels=ids).loss) * (len(example["input_ids"]) - 1)
            count += len(example["input_ids"]) - 1
    scores = scorer.compute()
    assert scores["perplexity"] == pytest.approx(math.exp(total / count), rel=1e-4)
    assert scores["perplexity_low"] < scores["perplexity"] < scores["perplexity_high"]


@pytest.mark.parametrize("blocks", [3, 80])
def test_the_interval_covers_the_truth_in_nineteen_of_twenty(blocks) -> None:
    generator, covered = np.random.default_rng(0), 0
    for _ in range(300):
        scorer = PerplexityScorer()
        for _ in range(blocks):
            tokens = int(generator.integers(20, 60))
            # Tokens of one block have a level in common; the expected loss is 2.
            scorer.add([Prediction(tokens, float(2 + generator.normal(0, 0.3)), [0.0])])
        scores = scorer.compute()
        covered += scores["perplexity_low"] <= math.exp(2) <= scores["perplexity_high"]
    assert 0.91 <= covered / 300 <= 0.98


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 50), st.floats(0, 10)), min_size=1, max_size=20))
def test_one_mean_over_all_tokens(blocks) -> None:
    scorer = PerplexityScorer()
    scorer.add([Prediction(tokens, loss, []) for tokens, loss in blocks])
    expected = sum(tokens * loss for tokens, loss in blocks) / sum(tokens for tokens, _ in blocks)
    assert scorer.compute()["loss"] == pytest.approx(expected)

"""On a card masks are made without a look at their values, and attention is the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import torch
from language_models import tiny_decoder
from torch import Tensor
from transformers import BertConfig, BertForSequenceClassification, masking_utils

from peftlab.acceleration.accelerated import accelerated
from peftlab.acceleration.device import Card, as_if_on
from peftlab.acceleration.masks import HAS_PADDING
from peftlab.core.splits import Example
from peftlab.tasks.language.decoder import pad_language
from peftlab.tasks.language.vocabulary_head import labelled_logits
from peftlab.tasks.text_inputs import pad, sequence_logits
from peftlab.training.evaluation import to_device


@pytest.fixture(autouse=True)
def _card() -> Iterator[None]:
    with as_if_on(Card("cuda")):
        yield


def tiny_bert() -> Any:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    return BertForSequenceClassification(BertConfig(vocab_size=60, **sizes)).eval()


def texts(*lengths: int) -> list[Example]:
    return [{"input_ids": [5 + place for place in range(length)]} for length in lengths]


def packed() -> dict[str, Tensor]:
    """Two rows, of two texts and of one; the second is padded."""
    rows = [[0, 1, 2, 0, 1, 2, 3], [0, 1, 2, 3, 4]]
    return pad_language(
        [
            {"input_ids": [7 + p for p in row], "labels": [3] * len(row), "position_ids": row, "packed": 1}
            for row in rows
        ],
        0,
    )


def language(*lengths: int) -> dict[str, Tensor]:
    return pad_language([{**example, "labels": [3] * len(example["input_ids"])} for example in texts(*lengths)], 0)


CASES: dict[str, tuple[Any, Any, Mapping[str, Tensor]]] = {
    "encoder, padded": (tiny_bert, sequence_logits, pad(texts(7, 4), 0)),
    "encoder, full": (tiny_bert, sequence_logits, pad(texts(6, 6), 0)),
    "decoder, padded": (lambda: tiny_decoder("llama"), labelled_logits, language(7, 4)),
    "decoder, packed": (lambda: tiny_decoder("llama"), labelled_logits, packed()),
    "decoder with windows": (lambda: tiny_decoder("gemma2"), labelled_logits, language(7, 4)),
}


@pytest.mark.parametrize("case", CASES)
def test_attention_is_the_same(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    build, compute, batch = CASES[case]
    model = build()
    with torch.no_grad():
        expected = compute(model, batch)
        with accelerated(model):
            # What lies on a card cannot be looked at without waiting.
            monkeypatch.setattr(torch.Tensor, "__bool__", lambda _self: pytest.fail("a look at a value"))
            found = compute(
                model, to_device({**batch, "attention_mask": _noted(batch["attention_mask"])}, torch.device("cpu"))
            )
            monkeypatch.undo()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def _noted(mask: Tensor) -> Tensor:
    """A mask that was looked at on the host."""
    mask = mask.clone()
    setattr(mask, HAS_PADDING, 0 in mask.flatten().tolist())
    return mask


def test_batches_are_looked_at_on_the_host() -> None:
    for lengths, is_padded in (((5, 3), True), ((4, 4), False)):
        moved = to_device(pad(texts(*lengths), 0), torch.device("cpu"))
        assert getattr(moved["attention_mask"], HAS_PADDING) is is_padded
    with as_if_on(Card("cpu")):
        assert not hasattr(to_device(pad(texts(3), 0), torch.device("cpu"))["attention_mask"], HAS_PADDING)


def test_transformers_looks_again_afterwards() -> None:
    names = ("find_packed_sequence_indices", "_ignore_causal_mask_sdpa", "_ignore_bidirectional_mask_sdpa")
    before = [getattr(masking_utils, name) for name in names]
    with accelerated(tiny_bert()):
        assert [getattr(masking_utils, name) for name in names] != before
    assert [getattr(masking_utils, name) for name in names] == before


def test_who_forwards_without_a_context_keeps_the_look() -> None:
    """Another model, in the same process, while one trains."""
    other, batch = tiny_decoder("llama"), packed()
    with torch.no_grad():
        expected = labelled_logits(other, batch)
        with accelerated(tiny_bert()):
            assert torch.equal(labelled_logits(other, batch), expected)

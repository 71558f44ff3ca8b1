"""Packed examples do not see each other: equal logits, equal loss, on every implementation of attention."""

from __future__ import annotations

import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from language_models import tiny_decoder

from peftlab.errors import UnsupportedError
from peftlab.interfaces import ModelFacts
from peftlab.tasks._language import labelled_logits, labelled_loss, pad_language, shifted
from peftlab.tasks._packing import PACKABLE, check_packing, pack, packed


def examples_of(lengths: list[int]) -> list[dict]:
    generator = random.Random(1)
    rows = [[generator.randrange(2, 60) for _ in range(length)] for length in lengths]
    return [{"input_ids": ids, "labels": shifted(ids, 1)} for ids in rows]


KINDS = [(name, attention) for name in sorted(PACKABLE) for attention in ("eager", "sdpa")]


@pytest.mark.parametrize(("model_type", "attention"), [kind for kind in KINDS if kind != ("gemma2", "sdpa")])
def test_packed_logits_are_the_unpacked_ones(model_type: str, attention: str) -> None:
    model, examples = tiny_decoder(model_type, attention), examples_of([7, 3, 1, 9, 2])
    rows = [[0, 2, 1], [3, 4]]
    with torch.inference_mode():
        for row in rows:
            together = labelled_logits(model, pad_language([packed([examples[at] for at in r]) for r in rows], 0))
            alone = torch.cat([labelled_logits(model, pad_language([examples[at]], 0)) for r in rows for at in r])
            assert torch.allclose(together, alone, atol=2e-5), (row, (together - alone).abs().max())


@pytest.mark.parametrize("model_type", ["gpt2", "llama"])
def test_packed_training_has_the_same_loss_and_gradients(model_type: str) -> None:
    model, examples = tiny_decoder(model_type), examples_of([7, 3, 9, 2, 12, 4])
    losses, gradients = [], []
    for batch in (
        pad_language(examples, 0),
        pad_language([packed([examples[at] for at in row]) for row in pack(examples, 16)], 0),
    ):
        model.zero_grad()
        loss = labelled_loss(model, batch) / 31
        loss.backward()
        losses.append(loss.detach())
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in model.parameters()]))
    assert abs(float(losses[0] - losses[1])) <= 1e-5
    assert torch.allclose(*gradients, atol=1e-5)


def test_without_borders_the_logits_would_differ() -> None:
    """The test above could fail: this is what leaking looks like."""
    model, examples = tiny_decoder("llama"), examples_of([7, 6])
    row = packed(examples)
    leaking = pad_language([{"input_ids": row["input_ids"], "labels": row["labels"]}], 0)
    with torch.inference_mode():
        difference = labelled_logits(model, leaking) - labelled_logits(model, pad_language([row], 0))
    assert difference.abs().max() > 0.01


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 20), min_size=1, max_size=60))
def test_every_example_is_in_one_row_that_is_not_too_long(lengths: list[int]) -> None:
    rows = pack(examples_of(lengths), 20)
    assert sorted(at for row in rows for at in row) == list(range(len(lengths)))
    filled = [sum(lengths[at] for at in row) for row in rows]
    assert max(filled) <= 20
    # No two rows could be one: best fit leaves none such.
    assert len(filled) == 1 or sum(sorted(filled)[:2]) > 20


def test_a_model_that_may_look_across_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="bloom keeps packed examples apart"):
        check_packing(ModelFacts("x", "bloom", "decoder", {}))

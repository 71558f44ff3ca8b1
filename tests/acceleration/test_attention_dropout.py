"""Attention with dropout gives torch's numbers and draws, with the gradients of its formula, and keeps less."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from test_on_card import exact
from test_unpadding import texts, tiny_encoder
from torch import Tensor
from torch.autograd import gradcheck
from torch.nn import functional
from transformers import T5Config, T5ForConditionalGeneration

from peftlab.acceleration.accelerated import accelerated
from peftlab.acceleration.attention_dropout import attend
from peftlab.tasks.text_inputs import pad


def masks() -> list[Tensor | None]:
    """None, padding told by bool, and by what scores are added to, for 2 texts of 5 tokens and 3 heads."""
    padding = torch.tensor([[True] * 5, [True, True, True, False, False]])[:, None, None, :]
    added = torch.zeros(2, 1, 5, 5).masked_fill(~padding, float("-inf"))
    return [None, padding, added, torch.randn(1, 3, 5, 5)]


@pytest.mark.parametrize("place", range(4))
def test_numbers_draws_and_gradients_are_torchs(place: int) -> None:
    torch.manual_seed(0)
    mask, gradient = masks()[place], torch.randn(2, 3, 5, 4)
    inputs = [torch.randn(2, 5, 3, 4).transpose(1, 2).requires_grad_() for _ in range(3)]
    results = []
    for is_own in (False, True):
        torch.manual_seed(1)
        if is_own:
            outputs = attend(*inputs, mask, dropout=0.3, scaling=0.7)
        else:
            outputs = functional.scaled_dot_product_attention(*inputs, attn_mask=mask, dropout_p=0.3, scale=0.7)
        results.append([outputs, *torch.autograd.grad(outputs, inputs, gradient), torch.rand(1)])
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)

    def seeded(*states: Tensor) -> Any:
        torch.manual_seed(2)
        return attend(
            *states, mask if mask is None or mask.dtype == torch.bool else mask.double(), dropout=0.3, scaling=0.7
        )

    assert gradcheck(seeded, tuple(exact(2, 3, 5, 4) for _ in range(3)))


def test_a_model_learns_the_same_and_the_record_is_told() -> None:
    model = tiny_encoder("bert", attention_probs_dropout_prob=0.2, hidden_dropout_prob=0.1).train()
    batch = pad(texts(6, 4, 9), 0)

    def learnt() -> dict[str, Tensor]:
        model.zero_grad()
        torch.manual_seed(3)
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        logits.square().sum().backward()
        found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
        return {"logits": logits.detach(), **found}

    plain = learnt()
    with accelerated(model) as parts:
        assert "attention_dropout" not in parts
        fused = learnt()
        assert parts["attention_dropout"] == model.config.num_hidden_layers
    assert plain.keys() == fused.keys()
    for name, expected in plain.items():
        torch.testing.assert_close(fused[name], expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()) + 1e-5)


def test_a_model_with_position_bias_is_left_alone() -> None:
    """T5 with dropout broke off in its first step: its bias was asked whether it is false."""
    sizes = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}
    model = T5ForConditionalGeneration(
        T5Config(vocab_size=60, dropout_rate=0.2, decoder_start_token_id=0, **sizes)
    ).train()
    ids, losses = torch.randint(2, 60, (2, 6)), []
    for fast in (False, True):
        torch.manual_seed(3)
        with accelerated(model) if fast else nullcontext():
            losses.append(model(input_ids=ids, labels=ids).loss)
    assert torch.allclose(*losses, rtol=1e-5)
    losses[1].backward()

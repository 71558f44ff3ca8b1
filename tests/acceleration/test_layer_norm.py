"""Frozen LayerNorms stay in half precision under autocast on a card, and are no less exact than its rounding."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from test_unpadding import sequence_logits, texts, tiny_encoder
from torch import Tensor, nn

from peftlab.acceleration.accelerated import accelerated
from peftlab.acceleration.device import Card, as_if_on
from peftlab.acceleration.layer_norm import FusedLayerNorm, can_fuse
from peftlab.measurement.memory import LiveBytes
from peftlab.tasks.text_inputs import pad


@pytest.fixture(autouse=True)
def _card() -> Iterator[None]:
    with as_if_on(Card("cuda")):
        yield


def norm_of(size: int) -> nn.Sequential:
    torch.manual_seed(0)
    norm = nn.LayerNorm(size, dtype=torch.bfloat16).requires_grad_(False)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    return nn.Sequential(norm)


def computed(norm: nn.Module, states: Tensor) -> tuple[Tensor, Tensor]:
    states = states.detach().requires_grad_()
    outputs = norm(states)
    (gradient,) = torch.autograd.grad(outputs, states, torch.ones_like(outputs).cumsum(-1))
    return outputs, gradient


def test_values_and_gradients_are_those_of_float64_as_far_as_half_precision_can_tell() -> None:
    norm = norm_of(48)
    states = (7 * torch.randn(5, 3, 48) + 3).bfloat16()
    with accelerated(norm) as parts, torch.autocast("cpu", dtype=torch.bfloat16):
        assert parts == {"layer_norm": 1}
        assert isinstance(norm[0], FusedLayerNorm)
        found = computed(norm, states)
    assert type(norm[0]) is nn.LayerNorm
    for one, exact in zip(found, computed(norm.double(), states.double()), strict=True):
        assert one.dtype == torch.bfloat16
        assert float((one.double() - exact).norm()) < 0.01 * float(exact.norm())


def test_kept_are_the_inputs_and_two_numbers_a_token() -> None:
    norm = norm_of(48)
    states = torch.randn(64, 48, dtype=torch.bfloat16).requires_grad_()
    watcher = LiveBytes([*norm.parameters(), states])
    with accelerated(norm), torch.autocast("cpu", dtype=torch.bfloat16), watcher:
        before = watcher.current_bytes
        outputs = norm(states)
        assert watcher.current_bytes - before <= outputs.numel() * 2 + 64 * 2 * 4


def test_who_trains_or_is_of_another_kind_stays_as_it_is() -> None:
    assert can_fuse(norm_of(8)[0])
    assert not can_fuse(norm_of(8)[0].requires_grad_(True))
    assert not can_fuse(norm_of(8)[0].float())
    assert not can_fuse(nn.LayerNorm(8, elementwise_affine=False))
    with as_if_on(Card("cpu")):
        assert not can_fuse(norm_of(8)[0])


def test_bert_is_as_exact_as_in_pure_half_precision() -> None:
    model, batch = tiny_encoder("bert").bfloat16().requires_grad_(False), pad(texts(9, 9), 0)
    pure = sequence_logits(model, batch)
    with accelerated(model) as parts, torch.autocast("cpu", dtype=torch.bfloat16):
        found = sequence_logits(model, batch)
    assert parts["layer_norm"] == 7
    torch.testing.assert_close(found, pure)

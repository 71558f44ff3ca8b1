"""A layer with AdaLoRA as one operation: peft's numbers, its formula's gradients, and nothing of its outputs' size kept."""

from __future__ import annotations

from typing import Any

import peft
import pytest
import torch
from language_models import tiny_decoder
from test_fused import agree, batch_of
from test_on_card import distance, exact, step
from torch import Tensor, nn
from torch.autograd import gradcheck

from peftlab.acceleration import adalora, low_rank
from peftlab.acceleration.accelerated import accelerated
from peftlab.acceleration.adalora import FusedAdaLora
from peftlab.acceleration.device import Card, as_if_on


def with_adalora(model: nn.Module, targets: Any = "all-linear", **settings: Any) -> Any:
    """A model whose singular values are not zero any more, and of which one rank is pruned in every matrix."""
    torch.manual_seed(1)
    settings = {"init_r": 3, "lora_alpha": 7, "total_step": 10, "target_modules": targets, **settings}
    wrapped = peft.get_peft_model(model, peft.AdaLoraConfig(**settings))
    for name, parameter in wrapped.named_parameters():
        if "lora_E" in name:
            nn.init.normal_(parameter)
            parameter.data[1] = 0
        if "ranknum" in name:
            parameter.requires_grad_(False)  # as the method has it: peft lets those train that it casts
    return wrapped.train()


def layer_of(bias: bool = True, kind: torch.dtype = torch.float32, **settings: Any) -> tuple[Any, Any]:
    """A model of one layer, and the layer."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(70, 90, bias=bias)).to(kind)
    wrapped = with_adalora(model, ["0"], **settings).to(kind)
    return wrapped, model[0]


def test_the_gradient_is_that_of_the_formula() -> None:
    torch.manual_seed(0)
    weight, bias, factor = torch.randn(5, 4).double(), torch.randn(5).double(), torch.tensor([1.7]).double()

    def layer(states: Tensor, vectors: Tensor, values: Tensor, up: Tensor) -> Any:
        down = adalora._Scaled.apply(vectors, values, factor, torch.float64)
        return low_rank._Lora.apply(states, weight, bias, down, up, 1.0)

    inputs = (exact(6, 4), exact(2, 4), exact(2, 1), exact(5, 2))
    states, vectors, values, up = inputs
    with as_if_on(Card("cuda")):  # where float64 has operations of its own
        assert gradcheck(layer, inputs)
        expected = states @ weight.T + bias + states @ (vectors * values).T @ up.T * factor
        torch.testing.assert_close(layer(*inputs), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("bias", [False, True])
def run_layer(wrapped: Any) -> tuple[dict[str, Tensor], list[tuple[int, ...]]]:
    """Outputs and gradients, and shapes of what forward kept."""
    kept: list[tuple[int, ...]] = []

    def keep(saved: Tensor) -> Tensor:
        kept.append(tuple(saved.shape))
        return saved

    wrapped.zero_grad()
    states = torch.randn(2, 5, 70, generator=torch.Generator().manual_seed(1)).requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda saved: saved):
        output = wrapped(states)
    output.backward(torch.randn(2, 5, 90, generator=torch.Generator().manual_seed(2)))
    gradients = {name: p.grad.clone() for name, p in wrapped.named_parameters() if p.grad is not None}
    return {"output": output.detach(), "states": states.grad, **gradients}, kept


@pytest.mark.parametrize("bias", [False, True])
def test_a_layer_gives_what_pefts_gives_and_keeps_its_inputs_only(bias: bool) -> None:
    wrapped, layer = layer_of(bias)
    plain, _ = run_layer(wrapped)
    with accelerated(wrapped) as parts:
        assert type(layer) is FusedAdaLora
        assert parts["adalora_linear"] == 1
        fused, kept = run_layer(wrapped)
    assert type(layer) is not FusedAdaLora
    assert sorted(shape for shape in kept if shape[0] == 10) == [(10, 3), (10, 70)]  # of what grows with the tokens
    assert {name.split(".")[-2] for name in plain if "lora" in name} == {"lora_A", "lora_B", "lora_E"}
    assert plain.keys() == fused.keys()
    for name, expected in plain.items():
        torch.testing.assert_close(fused[name], expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


def test_what_is_out_of_the_ordinary_is_pefts_own() -> None:
    wrapped, layer = layer_of(lora_dropout=0.1)
    with accelerated(wrapped) as parts:
        assert "adalora_linear" not in parts
    wrapped, layer = layer_of()
    states = torch.randn(4, 70)
    with wrapped.disable_adapter():
        expected = wrapped(states)
        with accelerated(wrapped):
            assert type(layer) is FusedAdaLora
            torch.testing.assert_close(wrapped(states), expected)
    nothing = torch.randn(0, 70)
    with accelerated(wrapped):
        assert wrapped(nothing).shape == (0, 90)
    updated = wrapped(states)
    layer.merge()
    with accelerated(wrapped):
        torch.testing.assert_close(wrapped(states), updated, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_whole_models_learn_the_same_on_cpu_and_within_rounding_on_a_card(family: str) -> None:
    batch = batch_of([9, 5, 12])
    agree(with_adalora(tiny_decoder(family), fan_in_fan_out=family == "gpt2"), batch)

    model = with_adalora(tiny_decoder(family).bfloat16(), fan_in_fan_out=family == "gpt2")
    plain = step(model, batch, torch.bfloat16)
    with as_if_on(Card("cuda", 80 * 10**9)):
        with accelerated(model) as parts:
            assert parts["adalora_linear"] >= 8
            fused = step(model, batch, torch.bfloat16)
        truth = step(model.double(), batch, None)
        with accelerated(model):
            assert distance(step(model, batch, None), truth) < 1e-5
    rounding = distance(plain, truth)
    assert 1e-4 < rounding < 0.3
    assert distance(fused, truth) < 1.5 * rounding

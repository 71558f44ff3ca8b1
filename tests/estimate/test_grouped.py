"""Mixtures of experts on shapes: what they cost is what they cost with numbers."""

from __future__ import annotations

import contextlib
from typing import Any

import torch
import transformers
from torch._subclasses.fake_tensor import FakeTensorMode

from peftlab.acceleration.accelerated import accelerated
from peftlab.core.method import MethodContext
from peftlab.estimate.fakes import give_fake_tensors, one_text_a_row
from peftlab.estimate.grouped import rows_by_one_expert
from peftlab.measurement.roofline import StepFlops, fit_step_flops
from peftlab.methods.lora import Lora


def flops_of(model: Any) -> StepFlops:
    def step(length: int, texts: int) -> None:
        model(input_ids=torch.ones(texts, length, dtype=torch.long)).logits.sum().backward()

    with accelerated(model):
        return fit_step_flops(step, [8, 16, 24])


def test_experts_on_shapes_cost_as_many_flops_as_with_numbers() -> None:
    """`estimate` ended with a defect on every mixture in float32, whose grouped products torch has no shapes of."""
    config = transformers.MixtralConfig(
        vocab_size=40, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2,
        intermediate_size=24, num_local_experts=4,
    )  # fmt: skip
    method, context = Lora(rank=4, target_parameters="all-experts"), MethodContext("CAUSAL_LM", 1)
    real = method.apply(transformers.MixtralForCausalLM(config), context)
    with torch.device("meta"):
        empty = transformers.MixtralForCausalLM(config)
    shapes = method.apply(empty, context)
    with contextlib.ExitStack() as stack:
        stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        give_fake_tensors(shapes)
        stack.enter_context(one_text_a_row())
        stack.enter_context(rows_by_one_expert())
        found = flops_of(shapes)
    own = flops_of(real)
    assert found.linear == own.linear
    assert found.quadratic == own.quadratic
    assert all(parameter.grad is not None for parameter in shapes.parameters() if parameter.requires_grad)

"""LoRA-FA: A stays, B gets the gradient that it has in LoRA, and layers do not keep what they read."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from torch import Tensor, nn

from peftlab.acceleration.accelerated import accelerated
from peftlab.core.method import METHODS
from peftlab.testing.tiny_models import KINDS, toy_batch

BERT = next(kind for kind in KINDS if kind.name == "bert")


def built(name: str) -> nn.Module:
    """The same weights for all methods of this rank, B not zero."""
    torch.manual_seed(0)
    model = METHODS[name](rank=4).apply(BERT.build(), BERT.context())
    with torch.no_grad():
        for own, value in model.named_parameters():
            if ".lora_B." in own:
                value.copy_(0.1 * torch.randn(value.shape, generator=torch.Generator().manual_seed(len(own))))
    return model


def learned(name: str, *, fast: bool) -> tuple[dict[str, Tensor], int]:
    """Gradients from one batch, and how many bytes were kept for them."""
    model, batch, kept = built(name), toy_batch(BERT), dict[int, int]()

    def keep(saved: Tensor) -> Tensor:
        kept[saved.untyped_storage().data_ptr()] = saved.untyped_storage().nbytes()
        return saved

    with accelerated(model) if fast else nullcontext():
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda saved: saved):
            loss = BERT.task.loss(BERT.task.logits(model, batch), batch)
        loss.backward()
    return {own: value.grad for own, value in model.named_parameters() if value.grad is not None}, sum(kept.values())


@pytest.mark.parametrize("fast", [True, False])
def test_b_gets_the_gradient_that_it_has_in_lora_and_inputs_are_not_kept(fast: bool) -> None:
    (own, own_bytes), (plain, plain_bytes) = learned("lora_fa", fast=fast), learned("lora", fast=fast)
    assert {name for name in plain if ".lora_A." in name}
    assert own.keys() == {name for name in plain if ".lora_A." not in name}
    for name, gradient in own.items():
        assert torch.allclose(gradient, plain[name], rtol=1e-5, atol=1e-7), name
    assert own_bytes < plain_bytes
    assert own["base_model.model.bert.encoder.layer.0.attention.self.query.lora_B.default.weight"].abs().sum() > 0


def test_a_is_saved_though_it_does_not_train() -> None:
    import peft

    model = built("lora_fa")
    assert not any(value.requires_grad for name, value in model.named_parameters() if ".lora_A." in name)
    saved = peft.get_peft_model_state_dict(model, save_embedding_layers=False)
    assert sum("lora_A" in name for name in saved) == sum("lora_B" in name for name in saved) > 0

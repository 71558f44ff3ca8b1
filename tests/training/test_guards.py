"""Guards that look at every tensor, place and step."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaModel
from transformers.models.m2m_100.modeling_m2m_100 import M2M100SinusoidalPositionalEmbedding

from peftlab.training.evaluation import DivergedError
from peftlab.training.fingerprints import PIECE, fingerprint
from peftlab.training.guards import BaseGuard, GradientGuard
from peftlab.training.loss_watch import LossWatch

LLAMA_SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "vocab_size": 9,
}


def permuted(tensor: Tensor) -> Tensor:
    return tensor.flatten()[torch.randperm(tensor.numel(), generator=torch.Generator().manual_seed(1))].view_as(tensor)


def swapped(tensor: Tensor) -> Tensor:
    other = tensor.clone()
    other[[0, 1]] = tensor[[1, 0]]
    return other


CHANGES: dict[str, Callable[[Tensor], Tensor]] = {
    "transposed": lambda tensor: tensor.T.contiguous(),
    "permuted": permuted,
    "two rows swapped": swapped,
    "columns swapped": lambda tensor: swapped(tensor.T).T,
    "rolled by one": lambda tensor: tensor.flatten().roll(1).view_as(tensor),
    "a view in another order": lambda tensor: tensor.flip(0),
    "negated": lambda tensor: -tensor,
    "one bit": lambda tensor: (tensor.flatten().view(torch.uint8) ^ (torch.arange(tensor.nbytes) == 5)).view(tensor.dtype).view_as(tensor),
    "another shape": lambda tensor: tensor.reshape(2, -1),
}  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64], ids=str)
@pytest.mark.parametrize("change", CHANGES)
def test_order_counts(change: str, dtype: torch.dtype) -> None:
    tensor = torch.randn(16, 16, generator=torch.Generator().manual_seed(0)).to(dtype)
    assert fingerprint(CHANGES[change](tensor)) != fingerprint(tensor)
    assert fingerprint(tensor.clone()) == fingerprint(tensor)
    assert fingerprint(tensor.T) == fingerprint(tensor.T.contiguous())


def test_words_that_differ_in_their_sign_alone() -> None:
    """A sum with fixed weights in 64-bit words would not see these change places."""
    for dtype in (torch.float32, torch.float64, torch.int64):
        tensor = torch.tensor([1, -1, 1, 1], dtype=dtype)
        assert fingerprint(tensor[[1, 0, 2, 3]]) != fingerprint(tensor)
    assert fingerprint(torch.tensor([0.0, -0.0])) != fingerprint(torch.tensor([-0.0, 0.0]))


@pytest.mark.parametrize("size", [1, 3, 5, PIECE + 1, 3 * PIECE + 7])
def test_sizes_of_all_kinds(size: int) -> None:
    """In one piece or several, and where the bytes make no whole words."""
    tensor = torch.randint(0, 255, (size,), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    other = tensor.clone()
    other[-1] ^= 1
    assert fingerprint(other) != fingerprint(tensor)
    large = torch.arange(float(size))
    if size > PIECE:
        first, second = large[:PIECE], large[PIECE : 2 * PIECE]
        moved = torch.cat([second, first, large[2 * PIECE :]]) if size > 2 * PIECE else large.flip(0)
        assert fingerprint(moved) != fingerprint(large)
    assert fingerprint(torch.zeros(0)) == fingerprint(torch.zeros(0))
    assert fingerprint(torch.zeros(0)) != fingerprint(torch.zeros(0, 2))


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8).requires_grad_(False)
        self.norm = nn.BatchNorm1d(8).requires_grad_(False)
        self.register_buffer("scale", torch.arange(8.0))
        self.register_buffer("table", torch.arange(8.0), persistent=False)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("layer.weight", lambda model: model.layer.weight.data.copy_(model.layer.weight.data.T.clone())),
        ("layer.bias", lambda model: model.layer.bias.data.copy_(model.layer.bias.data.flip(0))),
        ("scale", lambda model: model.scale.copy_(model.scale.flip(0))),
        ("table", lambda model: model.table.copy_(model.table.roll(1))),
        ("scale", lambda model: setattr(model, "scale", torch.arange(4.0))),
    ],
)
def test_what_is_frozen_may_not_change(name: str, change: Callable[[Model], object]) -> None:
    model = Model()
    guard = BaseGuard(model)
    assert guard.result(model).status == "passed"
    change(model)
    result = guard.result(model)
    assert (result.status, result.detail) == ("failed", f"frozen tensors changed: {name}")


def test_what_a_forward_rightly_changes_may() -> None:
    model = Model().train()
    guard = BaseGuard(model)
    before = model.norm.running_mean.clone()
    model.norm(torch.randn(4, 8) + 3)
    assert not torch.equal(before, model.norm.running_mean)
    assert guard.result(model).status == "passed"

    rope = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}
    llama = LlamaModel(LlamaConfig(**LLAMA_SIZES, max_position_embeddings=8, rope_parameters=rope)).requires_grad_(
        False
    )
    guard = BaseGuard(llama)
    frequencies = llama.rotary_emb.inv_freq.clone()
    llama(torch.ones(1, 20, dtype=torch.int64))
    assert not torch.equal(frequencies, llama.rotary_emb.inv_freq)
    assert guard.result(llama).status == "passed"

    table = M2M100SinusoidalPositionalEmbedding(6, 4, padding_idx=0)
    guard = BaseGuard(table)
    table(torch.ones(1, 30, dtype=torch.int64))
    assert guard.result(table).status == "passed"


def test_fixed_frequencies_may_not() -> None:
    llama = LlamaModel(LlamaConfig(**LLAMA_SIZES)).requires_grad_(False)
    guard = BaseGuard(llama)
    llama(torch.ones(1, 20, dtype=torch.int64))
    assert guard.result(llama).status == "passed"
    llama.rotary_emb.inv_freq.copy_(llama.rotary_emb.inv_freq.flip(0))
    assert guard.result(llama).status == "failed"


@pytest.mark.parametrize("quantization", ["nf4", "int8"])
def test_the_state_of_quantised_matrices_is_looked_at(quantization: str) -> None:
    bitsandbytes = pytest.importorskip("bitsandbytes")
    kinds = {"nf4": bitsandbytes.nn.Linear4bit, "int8": bitsandbytes.nn.Linear8bitLt}
    settings = {"nf4": {"compute_dtype": torch.float32, "quant_type": "nf4"}, "int8": {"has_fp16_weights": False}}
    plain = nn.Linear(64, 64)
    layer = kinds[quantization](64, 64, **settings[quantization])
    layer.load_state_dict(plain.state_dict())
    layer = layer.to("cpu").requires_grad_(False)
    layer(torch.randn(2, 64))
    guard = BaseGuard(layer)
    assert guard.result(layer).status == "passed"
    state = layer.weight.quant_state.absmax if quantization == "nf4" else layer.state.SCB
    state.copy_(state.flip(0))
    assert guard.result(layer).status == "failed"
    state.copy_(state.flip(0))
    layer.weight.data.copy_(permuted(layer.weight.data))
    assert guard.result(layer).status == "failed"


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("which", ["loss", "norm"])
def test_a_loss_that_is_not_finite_once_is_remembered(bad: float, which: str) -> None:
    watch = LossWatch(torch.device("cpu"), 0.1)
    for step in range(1, 10):
        loss, norm = torch.tensor(1.0), torch.tensor(2.0)
        if step in (4, 7):
            loss, norm = (torch.tensor(bad), norm) if which == "loss" else (loss, torch.tensor(bad))
        watch.look(step, loss, norm)
        if step == 3:
            watch.check()
    with pytest.raises(DivergedError, match="at step 4"):
        watch.check()


def test_a_part_that_never_learns_is_found_beside_steps_that_teach_nothing() -> None:
    """Such steps are those without any gradient, not those in which the parts that are waited for have none."""
    model = nn.ModuleDict({name: nn.Linear(2, 2, bias=False) for name in ("learns", "dead")})
    guard = GradientGuard(model)
    for number in range(30):
        for name, weight in model.named_parameters():
            weight.grad = torch.full_like(weight, float(number >= 15 and name == "learns.weight"))
        guard.observe(model, may_teach_nothing=True)
        if number == 14:
            assert guard.result().status == "not_applicable"
    assert guard.result().status == "failed"
    assert "dead.weight" in guard.result().detail

"""liger-kernel's SwiGLU is taken where it is there, known and right, and never uses up what is still needed in silence.

There is no card here: its two functions are stood in for by torch, with their habit of writing into what they are given.
"""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from language_models import tiny_decoder
from test_fused import agree, batch_of, with_lora
from test_on_card import exact
from torch import Tensor
from torch.nn import functional

from peftlab.acceleration import gated_mlp, liger


def forward(gate: Tensor, up: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return gate, up, functional.silu(gate) * up


def backward(gate: Tensor, up: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    by_gate, by_up = torch.ops.aten.silu_backward(gradient * up, gate), functional.silu(gate) * gradient
    gate.data.copy_(by_gate)  # unseen by autograd, as Triton writes
    up.data.copy_(by_up)
    return gate, up


def install(monkeypatch: pytest.MonkeyPatch, version: str = "0.8.5", **functions: Any) -> None:
    both = {"swiglu_forward": forward, "swiglu_backward": backward, **functions}
    monkeypatch.setitem(sys.modules, "liger_kernel", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "liger_kernel.ops", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "liger_kernel.ops.swiglu", SimpleNamespace(**both))
    monkeypatch.setattr(liger, "installed_version", lambda _name: version)


checked = liger.checked_swiglu.__wrapped__


def test_it_is_taken_only_in_a_known_version_that_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = (torch.float32, torch.bfloat16)
    install(monkeypatch)
    assert all(checked("cpu", kind) is not None for kind in kinds)
    install(monkeypatch, swiglu_forward=lambda gate, up: (gate, up, functional.gelu(gate) * up))
    assert not any(checked("cpu", kind) for kind in kinds)
    install(monkeypatch, swiglu_backward=lambda gate, up, gradient: (gate, gradient))
    assert not any(checked("cpu", kind) for kind in kinds)

    def fails(*_: Any) -> Any:
        raise RuntimeError("no compiler")

    install(monkeypatch, swiglu_forward=fails)
    assert checked("cpu", torch.float32) is None
    with monkeypatch.context() as old:  # nothing is compiled in a type that the card only emulates
        install(old)
        old.setattr(liger, "card_has_bfloat16", lambda: False)
        assert [checked("cpu", kind) is not None for kind in kinds] == [True, False]
    for version in ("0.7.0", "0.9.0", "1.0"):
        install(monkeypatch, version)
        assert checked("cpu", torch.float32) is None


def test_without_it_or_without_a_card_torch_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    gate, up = torch.randn(2, 6), torch.randn(2, 6)
    assert liger.swiglu_for(gate, up) is None
    monkeypatch.setattr(liger, "installed_version", lambda _name: None)
    assert not liger.is_known_version()


def test_models_learn_the_same_by_it(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def kernels(gate: Tensor, up: Tensor) -> Any:
        asked.append(gate.shape)
        return liger.SwiGlu(forward, backward)

    monkeypatch.setattr(gated_mlp, "swiglu_for", kernels)
    agree(with_lora(tiny_decoder("llama")), batch_of([9, 5, 12]))
    assert asked
    asked.clear()
    agree(with_lora(tiny_decoder("llama"), ["q_proj"]), batch_of([9, 5, 12]))
    assert asked


def test_who_goes_back_twice_is_told_that_gate_and_up_are_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gated_mlp, "swiglu_for", lambda *_: liger.SwiGlu(forward, backward))
    gate, up = exact(3, 5), exact(3, 5)
    outputs: Any = gated_mlp._Gated.apply(gate * 1, up * 1)
    outputs.sum().backward(retain_graph=True)
    expected = torch.autograd.grad((functional.silu(gate) * up).sum(), (gate, up))
    torch.testing.assert_close((gate.grad, up.grad), expected)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        outputs.sum().backward()

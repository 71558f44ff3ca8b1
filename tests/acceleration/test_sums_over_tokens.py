"""Gradients of weights, by the library that the make of processor is given."""

from __future__ import annotations

import pytest
import torch

from peftlab.acceleration import onednn
from peftlab.acceleration.lora_matrices import LoraMatrices


@pytest.mark.parametrize("intel", [True, False])
def test_each_library_gives_the_gradients_of_autograd(intel: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onednn, "is_intel", lambda: intel)
    generator = torch.Generator().manual_seed(0)
    states, weight, bias, down, up, gradient = (
        torch.randn(*shape, generator=generator) for shape in ((70, 64), (96, 64), (96,), (8, 64), (96, 8), (70, 96))
    )

    exact = [tensor.double().requires_grad_() for tensor in (states, weight, down, up)]
    x, w, a, b = exact
    by_layer = torch.autograd.grad(x @ w.T, (w,), gradient.double())
    by_update = torch.autograd.grad(x @ w.T + 2 * x @ a.T @ b.T, (x, a, b), gradient.double())

    trained = weight.clone().requires_grad_()
    onednn.multiply(states, trained, bias).backward(gradient)
    matrices = LoraMatrices(weight, bias, down, up, 2.0)
    found = [trained.grad, *matrices.gradients(gradient, states, states @ down.T, (True, True, True))]
    for one, other in zip(found, [*by_layer, *by_update], strict=True):
        assert one is not None
        torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=1e-4)


def test_the_make_is_read_where_linux_tells_it(monkeypatch: pytest.MonkeyPatch) -> None:
    makes = {"GenuineIntel": torch.backends.mkl.is_available(), "AuthenticAMD": False}
    for make, expected in makes.items():
        onednn.is_intel.cache_clear()
        monkeypatch.setattr(onednn.Path, "read_text", lambda *_, make=make, **__: f"vendor_id : {make}")
        assert onednn.is_intel() is expected
    onednn.is_intel.cache_clear()

"""The gated part of Llama-like layers, down(silu(gate(x)) · up(x)), SwiGLU (Shazeer 2020, https://arxiv.org/abs/2002.05202).

Of the four tensors as wide as the part that autograd would keep, two are enough: what gate and up give.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional
from transformers.activations import SiLUActivation

from peftlab.acceleration.device import device_type_of
from peftlab.acceleration.liger import swiglu_for
from peftlab.acceleration.lora_matrices import LoraMatrices
from peftlab.acceleration.same_results import gives_the_same, ramp

NAMES = ("gate_proj", "up_proj", "down_proj")


class FusedGatedMlp(nn.Module):
    """Takes the place of any model's part that computes as Llama's does."""

    gate_proj: nn.Module
    up_proj: nn.Module
    down_proj: nn.Module

    def forward(self, x: Tensor) -> Tensor:
        """… × size to … × size."""
        gate, up, down = self.gate_proj(x), self.up_proj(x), self.down_proj
        find = getattr(down, "lora_matrices", None)  # where the layer is a fused one with LoRA
        if find is not None and (matrices := find(gate)) is not None:
            weights = (matrices.weight, matrices.bias, matrices.down, matrices.up)
            wide = (gate.reshape(-1, gate.shape[-1]), up.reshape(-1, up.shape[-1]))
            rows: Tensor = _GatedLora.apply(*wide, *weights, matrices.scaling)  # type: ignore[no-untyped-call]
            return rows.view(*gate.shape[:-1], rows.shape[-1])
        outputs: Tensor = down(_Gated.apply(gate, up))  # type: ignore[no-untyped-call]
        return outputs


class _Gated(torch.autograd.Function):
    """silu(gate) · up."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        ctx.save_for_backward(gate, up)
        return _activated(gate, up)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        gate, up = ctx.saved_tensors
        (gradient,) = gradients
        return _by_gate_and_up(gradient, gate, up, _silu_where_needed(gate, up))


class _GatedLora(torch.autograd.Function):
    """The same for n × width, with the layer after it, which has a LoRA update: not even its inputs are kept."""

    @staticmethod
    def forward(
        ctx: Any,
        gate: Tensor,
        up: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        lora_down: Tensor,
        lora_up: Tensor,
        scaling: float,
    ) -> Tensor:
        hidden = _activated(gate, up)
        outputs, low = LoraMatrices(weight, bias, lora_down, lora_up, scaling).outputs(hidden)
        ctx.save_for_backward(gate, up, weight, lora_down, lora_up, low)
        ctx.scaling = scaling
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        gate, up, weight, lora_down, lora_up, low = ctx.saved_tensors
        (gradient,) = gradients
        activated = _silu_where_needed(gate, up)
        hidden = _activated(gate, up) if activated is None else activated * up
        of_hidden, of_down, of_up = LoraMatrices(weight, None, lora_down, lora_up, ctx.scaling).gradients(
            gradient, hidden, low, (True, *ctx.needs_input_grad[4:6])
        )
        del hidden
        assert of_hidden is not None  # noqa: S101 - it was wanted
        by_gate, by_up = _by_gate_and_up(of_hidden, gate, up, activated)
        return by_gate, by_up, None, None, of_down, of_up, None


def _activated(gate: Tensor, up: Tensor) -> Tensor:
    """silu(gate) · up."""
    kernels = swiglu_for(gate, up)
    return functional.silu(gate).mul_(up) if kernels is None else kernels.activate(gate, up)


def _silu_where_needed(gate: Tensor, up: Tensor) -> Tensor | None:
    """silu(gate), which kernels for both do without."""
    return functional.silu(gate) if swiglu_for(gate, up) is None else None


def _by_gate_and_up(gradient: Tensor, gate: Tensor, up: Tensor, activated: Tensor | None) -> tuple[Tensor, Tensor]:
    """The gradients, from that by silu(gate) · up; takes the room of silu(gate), if that is there."""
    if activated is None:
        kernels = swiglu_for(gate, up)
        assert kernels is not None  # noqa: S101 - else it would be there
        return kernels.gradients(gradient, gate, up)
    of_gate: Tensor = torch.ops.aten.silu_backward(gradient * up, gate)
    return of_gate, activated.mul_(gradient)


def can_fuse(module: nn.Module) -> bool:
    """Whether its class computes as Llama's does, with this activation, on CPU or CUDA."""
    own: Any = type(module)
    return (
        all(isinstance(getattr(module, name, None), nn.Module) for name in NAMES)
        and isinstance(getattr(module, "act_fn", None), nn.SiLU | SiLUActivation)
        and all(device_type_of(parameter) in ("cpu", "cuda") for parameter in module.parameters())
        and _is_known(own)
    )


@functools.cache
def _is_known(own: Any) -> bool:
    def weights(name: str) -> Tensor:
        return ramp(6, 4) + len(name) if name != "down_proj" else ramp(4, 6)

    def found() -> Any:
        stand_in: Any = nn.Module()
        stand_in.act_fn = nn.SiLU()
        for name in NAMES:
            setattr(stand_in, name, functools.partial(functional.linear, weight=weights(name)))
        return own.forward(stand_in, ramp(2, 3, 4))

    def expected() -> Tensor:
        states = ramp(2, 3, 4)
        gate, up = (functional.linear(states, weights(name)) for name in NAMES[:2])
        return functional.linear(functional.silu(gate) * up, weights(NAMES[2]))

    return gives_the_same(found, expected)

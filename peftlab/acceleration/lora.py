"""A linear layer with a LoRA update as one operation. Kept are its inputs, and rank numbers a token."""

from __future__ import annotations

from typing import Any, cast

import torch
from peft.tuners.lora.layer import Linear
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers.pytorch_utils import Conv1D

from peftlab.acceleration.casts import Casts
from peftlab.acceleration.device import computed_in, is_fused_for
from peftlab.acceleration.lora_groups import computed_together
from peftlab.acceleration.lora_matrices import LoraMatrices

CASTS = "_peftlab_casts"
"""Where a layer finds the weights of its model that are cast together."""


class FusedLora(Linear):  # type: ignore[misc] # peft leaves its class untyped
    """Peft's linear layer with LoRA; computes as peft does where anything is out of the ordinary."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """… × inputs to … × outputs."""
        matrices = None if args or kwargs else self.lora_matrices(x)
        if matrices is None:
            outputs: Tensor = super().forward(x, *args, **kwargs)
            return outputs
        rows = self._with_others(x, matrices)
        if rows is None:
            weights = (matrices.weight, matrices.bias, matrices.down, matrices.up)
            rows = cast("Tensor", _Lora.apply(self._rows(x, matrices), *weights, matrices.scaling))  # type: ignore[no-untyped-call]
        return rows.view(*x.shape[:-1], rows.shape[-1])

    def _rows(self, states: Tensor, matrices: LoraMatrices) -> Tensor:
        """N × inputs, of the matrices' type."""
        return self.casts.states(states, matrices.weight.dtype).reshape(-1, states.shape[-1])

    def _with_others(self, states: Tensor, matrices: LoraMatrices) -> Tensor | None:
        """N × outputs where the layer is computed together with others that read the same states."""
        shared = self.casts.shared
        if shared is None or not torch.is_grad_enabled():
            return None
        ready = shared.take(self, states)
        if ready is not None:
            return ready
        others = shared.others(self)
        found = [layer.lora_matrices(states) for layer in others]
        kinds = {matrices.weight.dtype, *(one.weight.dtype for one in found if one is not None)}
        if not found or None in found or len(kinds) > 1:
            return None
        own, *rest = computed_together(self._rows(states, matrices), [matrices, *found])
        for layer, outputs in zip(others, rest, strict=True):
            shared.keep(layer, states, outputs)
        return own

    @property
    def casts(self) -> Casts:
        """Of the model that the layer is a part of."""
        return self.__dict__.get(CASTS) or Casts()

    def lora_matrices(self, states: Tensor) -> LoraMatrices | None:
        """The layer's matrices; None where its update is not just one adapter's, or the states are of another kind."""
        active = self.active_adapters
        plain = not self.disable_adapters and not self.merged and len(active) == 1 and active[0] in self.lora_A
        base, kind = self.base_layer, computed_in(states)
        if not plain or base.weight.dtype != kind or not states.numel():
            return None
        (name,) = active
        down, up = (self.casts.weight(part[name].weight, kind) for part in (self.lora_A, self.lora_B))
        weight = base.weight.t() if isinstance(base, Conv1D) else base.weight
        return LoraMatrices(weight, base.bias, down, up, self.scaling[name])


class _Lora(torch.autograd.Function):
    """For n × inputs: what a Function gives as a view must not be changed in place by whoever gets it."""

    @staticmethod
    def forward(
        ctx: Any, states: Tensor, weight: Tensor, bias: Tensor | None, down: Tensor, up: Tensor, scaling: float
    ) -> Tensor:
        outputs, low = LoraMatrices(weight, bias, down, up, scaling).outputs(states)
        ctx.save_for_backward(states, weight, down, up, low)
        ctx.scaling = scaling
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        states, weight, down, up, low = ctx.saved_tensors
        (gradient,) = gradients
        wants = ctx.needs_input_grad
        matrices = LoraMatrices(weight, None, down, up, ctx.scaling)
        of_states, of_down, of_up = matrices.gradients(gradient, states, low, (wants[0], wants[3], wants[4]))
        return of_states, None, None, of_down, of_up, None


def trained_weights(module: Any) -> list[nn.Parameter]:
    """A and B of all adapters of a layer that train."""
    weights = [part.weight for part in (*module.lora_A.values(), *module.lora_B.values())]
    return [weight for weight in weights if weight.requires_grad]


def can_fuse(module: Any) -> bool:
    """Whether this is a LoRA layer without dropout, DoRA and biases of its own, of a frozen base.

    On CPU all is in float32. On CUDA the base may be in half precision, with adapters in float32, as for autocast.
    """
    if type(module) is not Linear or module.lora_variant or type(module.base_layer) not in (nn.Linear, Conv1D):
        return False
    parts = [*module.lora_A.values(), *module.lora_B.values()]
    base = [*module.base_layer.parameters()]
    return (
        all(isinstance(dropout, nn.Identity) for dropout in module.lora_dropout.values())
        and all(isinstance(part, nn.Linear) and part.bias is None for part in parts)
        and is_fused_for(*base, *(part.weight for part in parts))
        and len({tensor.dtype for tensor in base}) == 1
        and not any(parameter.requires_grad for parameter in base)
    )

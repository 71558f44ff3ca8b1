"""A linear layer with a low-rank update as one operation. Kept are its inputs, and rank numbers a token."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from peftlab.acceleration.casts import Casts
from peftlab.acceleration.device import is_fused_for
from peftlab.acceleration.lora_groups import computed_together
from peftlab.acceleration.lora_matrices import LoraMatrices

CASTS = "_peftlab_casts"
"""Where a layer finds the weights of its model that are cast together."""


class FusedLowRank:
    """Stands before a class of peft's; computes as peft does where anything is out of the ordinary."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """… × inputs to … × outputs."""
        matrices = None if args or kwargs else self.lora_matrices(x)
        if matrices is None:
            outputs: Tensor = super().forward(x, *args, **kwargs)  # type: ignore[misc]
            return outputs
        rows = self._with_others(x, matrices)
        if rows is None:
            weights = (matrices.weight, matrices.bias, matrices.down, matrices.up)
            rows = cast("Tensor", _Lora.apply(self._rows(x, matrices), *weights, matrices.scaling))  # type: ignore[no-untyped-call]
        return rows.view(*x.shape[:-1], rows.shape[-1])

    def lora_matrices(self, states: Tensor) -> LoraMatrices | None:
        """The layer's matrices; None where its update is not just one adapter's, or the states are of another kind."""
        raise NotImplementedError

    def weights_to_cast(self) -> list[nn.Parameter]:
        """What trains and is computed in the type of the states; cast together with that of other layers."""
        raise NotImplementedError

    @property
    def casts(self) -> Casts:
        """Of the model that the layer is a part of."""
        return self.__dict__.get(CASTS) or Casts()

    def only_adapter(self) -> str | None:
        """The name of the one adapter that updates the layer; None where there is not just one."""
        layer: Any = self
        active = layer.active_adapters
        plain = not layer.disable_adapters and not layer.merged and len(active) == 1 and active[0] in layer.lora_A
        return active[0] if plain else None

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


class _Lora(torch.autograd.Function):
    """For n × inputs: what a Function gives as a view must not be changed in place by whoever gets it."""

    @staticmethod
    def forward(
        ctx: Any, states: Tensor, weight: Tensor, bias: Tensor | None, down: Tensor, up: Tensor, scaling: float
    ) -> Tensor:
        outputs, low = LoraMatrices(weight, bias, down, up, scaling).outputs(states)
        # Where A is frozen (LoRA-FA), nothing needs the inputs any more.
        ctx.save_for_backward(states if ctx.needs_input_grad[3] else None, weight, down, up, low)
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


def is_fused_with(module: Any, adapters: list[Tensor]) -> bool:
    """Whether a layer has a frozen base of one type, and neither dropout nor a variant; for its adapters' tensors.

    On CPU all is in float32. On CUDA the base may be in half precision, with adapters in float32, as for autocast.
    """
    base = [*module.base_layer.parameters()]
    return (
        all(isinstance(dropout, nn.Identity) for dropout in module.lora_dropout.values())
        and is_fused_for(*base, *adapters)
        and len({tensor.dtype for tensor in base}) == 1
        and not any(parameter.requires_grad for parameter in base)
    )

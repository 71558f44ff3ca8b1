"""Frozen LayerNorms (Ba et al. 2016, https://arxiv.org/abs/1607.06450) in the type that autocast computes in.

CUDA's autocast casts a norm's inputs, weights and bias to float32, and leaves its outputs in it: BERT then keeps a
fourth more for the backward pass, and half a dozen kernels a norm do nothing but cast. Torch's kernel adds up in
float32 whatever type it is given, so inputs and outputs can stay in half precision, as in a model without autocast.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from peftlab.acceleration.device import device_type_of


class FusedLayerNorm(nn.LayerNorm):
    """A norm whose outputs are of its weights' type, where autocast computes in it and the inputs are of it."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        """… × size to … × size."""
        device, kind = input.device.type, self.weight.dtype
        is_cast = torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) == kind == input.dtype
        if not is_cast:
            return super().forward(input)
        with torch.autocast(device, enabled=False):
            return functional.layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)


def can_fuse(module: Any) -> bool:
    """Whether it is such a norm, frozen, in bfloat16 on a card."""
    return (
        type(module) is nn.LayerNorm
        and module.elementwise_affine
        and not any(parameter.requires_grad for parameter in module.parameters())
        and module.weight.dtype == torch.bfloat16
        and device_type_of(module.weight) == "cuda"
    )

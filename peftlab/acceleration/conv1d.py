"""GPT-2's linear layers, which keep their matrices the other way around, through oneDNN."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers.pytorch_utils import Conv1D

from peftlab.acceleration.device import device_type_of
from peftlab.acceleration.onednn import is_chosen, multiply


class OneDnnConv1D(Conv1D):
    """A layer that computes by oneDNN, except under autocast."""

    def forward(self, x: Tensor) -> Tensor:
        """… × inputs to … × outputs."""
        if torch.is_autocast_enabled("cpu") or x.dtype != torch.float32 or not x.numel():
            outputs: Tensor = super().forward(x)  # type: ignore[no-untyped-call]
            return outputs
        return multiply(x, self.weight.t(), self.bias)


def can_fuse(module: Any) -> bool:
    """Whether it is such a layer, in float32 on a CPU where oneDNN is the faster library."""
    is_own = type(module) is Conv1D and device_type_of(module.weight) == "cpu" and module.weight.dtype == torch.float32
    return is_own and is_chosen()

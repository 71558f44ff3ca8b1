"""The weights of classes as torch's cross-entropy takes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from peftlab.core.task import Task

if TYPE_CHECKING:
    from torch import Tensor


def weights_like(logits: Tensor, task: Task) -> Tensor | None:
    """A weight for each class, on the logits' device, in float32; None where all classes weigh the same."""
    if task.class_weights is None:
        return None
    import torch

    return torch.tensor(task.class_weights, dtype=torch.float32, device=logits.device)

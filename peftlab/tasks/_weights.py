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

    if logits.device.type == "cpu":
        return torch.tensor(task.class_weights, dtype=torch.float32)
    # Filled on the card: a copy from the host is waited for, and that is forbidden while a graph is recorded.
    return torch.cat([logits.new_full((1,), weight, dtype=torch.float32) for weight in task.class_weights])

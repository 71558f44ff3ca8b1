"""Mixout: at random, weights are back where they started (Lee et al. 2020, https://arxiv.org/abs/1909.11299)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from peftlab.core.hooks import Backward
from peftlab.core.lent_weights import lent_weights
from peftlab.core.regularizer import REGULARIZERS, TrainingSetup
from peftlab.regularizers._averages import refuse_pruning
from peftlab.regularizers._start import KeepsStart

if TYPE_CHECKING:
    from torch import Tensor, nn

LEVELS = 2**16


@REGULARIZERS.register("mixout")
class Mixout(KeepsStart):
    """Mixout: in each pass a random part of the trained matrices is as it was at the start."""

    paper: ClassVar[str] = "https://arxiv.org/abs/1909.11299"
    memory: ClassVar[str] = "three copies of what trains"
    outermost: ClassVar[bool] = True
    not_with: ClassVar[tuple[str, ...]] = ("l2_sp",)

    probability: float = Field(
        0.5, gt=0, lt=1, description="That a weight is where it started, as the nearest of 65,536 levels."
    )

    def passes_of(self, *, trains_base: bool) -> float:
        """Where all of the base trains, all of it is drawn, mixed and masked: a tenth of a pass over a usual batch."""
        return 1.1 if trains_base else 1.0

    def check(self, setup: TrainingSetup) -> None:
        """Refuse methods that prune: pruned weights would come back."""
        refuse_pruning(self.registered_name, setup)

    def around_backward(self, backward: Backward, model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """One pass with mixed matrices, on average the trained ones (equation 5); kept weights alone get gradients."""
        import torch

        limit = min(max(round((1 - self.probability) * LEVELS), 1), LEVELS - 1)
        share = limit / LEVELS
        matrices = {name: p for name, p in model.named_parameters() if name in self.start and p.ndim > 1}
        mixed, handles = {}, []
        try:
            for name, matrix in matrices.items():
                kept = torch.empty_like(matrix)
                torch.lt(_drawn_levels(matrix), limit - LEVELS // 2, out=kept).div_(share)
                mixed[name] = torch.lerp(self.start[name], matrix.detach(), kept)
                handles.append(matrix.register_hook(kept.mul))  # type: ignore[no-untyped-call]
            with lent_weights(model, mixed):
                return backward()
        finally:
            for handle in handles:
                handle.remove()


def _drawn_levels(matrix: Tensor) -> Tensor:
    """For each weight a whole number from -LEVELS / 2 up to LEVELS / 2, each as likely; four are drawn at once."""
    import torch

    count = matrix.numel()
    bits = torch.empty(-(-count // 4), dtype=torch.int64, device=matrix.device).random_(-(2**63), None)
    return bits.view(torch.int16)[:count].view(matrix.shape)

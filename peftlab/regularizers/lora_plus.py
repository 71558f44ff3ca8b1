"""LoRA+: B learns faster than A (Hayou et al. 2024, https://arxiv.org/abs/2402.12354)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from peftlab.core.errors import UnsupportedError
from peftlab.core.regularizer import REGULARIZERS, Regularizer, TrainingSetup

if TYPE_CHECKING:
    from torch import nn


@REGULARIZERS.register("lora_plus")
class LoraPlus(Regularizer):
    """LoRA+: the second matrix of each low-rank update learns at a higher rate than the first."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2402.12354"
    default_rate_factor: ClassVar[float] = 0.1

    ratio: float = Field(
        16.0, gt=1, description="B's rate, divided by A's. training.learning_rate is that of A and of all else."
    )

    def check(self, setup: TrainingSetup) -> None:
        """Refuse methods without low-rank updates."""
        if not setup.method.has_low_rank_updates:
            raise UnsupportedError(
                f"{setup.method.registered_name} has no low-rank updates B A, to whose B lora_plus gives another rate",
                hint="Leave lora_plus out, or choose the method lora.",
            )

    def rate_factors(self, model: nn.Module) -> dict[str, float]:
        """The ratio, for every B.

        Raises:
            UnsupportedError: No A trains.
        """
        if not any(".lora_A." in name and parameter.requires_grad for name, parameter in model.named_parameters()):
            raise UnsupportedError(
                "lora_plus gives B another rate than A, and no A trains",
                where="training.regularizers",
                hint="Leave lora_plus out, or choose the method lora.",
            )
        return {name: self.ratio for name, _ in model.named_parameters() if ".lora_B." in name}

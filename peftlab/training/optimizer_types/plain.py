"""The optimizers that recipes name most, with peftlab's own defaults."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from peftlab.core.optimizer import OPTIMIZERS, Group, OptimizerConfig

Betas = list[float]


@OPTIMIZERS.register("adamw")
class AdamW(OptimizerConfig):
    """Adam with decoupled weight decay, computed by one fused kernel."""

    betas: Betas = Field([0.9, 0.999], min_length=2, max_length=2, description="Decay of both moments.")
    eps: PositiveFloat = Field(1e-8, description="Added to the denominator.")
    amsgrad: bool = Field(False, description="Keep the largest second moment.")

    def build(self, groups: list[Group], learning_rate: float, model: Any) -> Any:
        """``torch.optim.AdamW``."""
        import torch

        beta1, beta2 = self.betas
        settings: dict[str, Any] = {"betas": (beta1, beta2), "eps": self.eps, "amsgrad": self.amsgrad}
        return torch.optim.AdamW(groups, lr=learning_rate, fused=True, **settings)


@OPTIMIZERS.register("sgd")
class SGD(OptimizerConfig):
    """Gradient descent with momentum; weight decay is added to the gradient."""

    momentum: NonNegativeFloat = Field(0.9, lt=1, description="Share of the last step that is kept.")
    dampening: NonNegativeFloat = Field(0.0, description="What the gradient is lessened by.")
    nesterov: bool = Field(False, description="Nesterov's momentum.")

    def build(self, groups: list[Group], learning_rate: float, model: Any) -> Any:
        """``torch.optim.SGD``."""
        import torch

        return torch.optim.SGD(
            groups, lr=learning_rate, momentum=self.momentum, dampening=self.dampening, nesterov=self.nesterov
        )


@OPTIMIZERS.register("adafactor")
class Adafactor(OptimizerConfig):
    """States of a row and a column for each matrix (https://arxiv.org/abs/1804.04235)."""

    eps: list[float] = Field([1e-30, 1e-3], min_length=2, max_length=2, description="Of squares, and of scales.")
    clip_threshold: PositiveFloat = Field(1.0, description="Longest update, as a root mean square.")
    decay_rate: float = Field(-0.8, description="Exponent of the second moment's decay.")
    beta1: float | None = Field(None, ge=0, lt=1, description="Decay of a first moment. null: none is kept.")

    def build(self, groups: list[Group], learning_rate: float, model: Any) -> Any:
        """Transformers' ``Adafactor`` with the recipe's rate, not one that it makes up by itself."""
        from transformers.optimization import Adafactor as Library

        first, second = self.eps
        return Library(  # type: ignore[no-untyped-call]
            groups,
            lr=learning_rate,
            eps=(first, second),
            clip_threshold=self.clip_threshold,
            decay_rate=self.decay_rate,
            beta1=self.beta1,
            scale_parameter=False,
            relative_step=False,
            warmup_init=False,
        )


@OPTIMIZERS.register("galore_adamw")
class GaLoreAdamW(OptimizerConfig):
    """For full tuning, AdamW's states of some directions of each matrix (https://arxiv.org/abs/2403.03507)."""

    package: ClassVar[str] = "pytorch-optimizer"
    needs_trained_base: ClassVar[bool] = True

    rank: PositiveInt = Field(
        128, description="Directions of a matrix whose smaller side is larger. Others have AdamW's own states."
    )
    update_proj_gap: PositiveInt = Field(
        200, description="Steps between projections. A singular value decomposition of every matrix takes a while."
    )
    scale: PositiveFloat = Field(1.0, description="What projected steps are multiplied by.")

    def build(self, groups: list[Group], learning_rate: float, model: Any) -> Any:
        """pytorch-optimizer's ``GaLore``, whose state is tensors alone."""
        from peftlab.training.galore import build_galore

        return build_galore(
            groups, learning_rate, rank=self.rank, update_proj_gap=self.update_proj_gap, scale=self.scale
        )


PLAIN: dict[str, type[OptimizerConfig]] = {
    "adamw": AdamW,
    "sgd": SGD,
    "adafactor": Adafactor,
    "galore_adamw": GaLoreAdamW,
}
"""Known without a look at the libraries."""

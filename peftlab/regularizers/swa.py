"""SWA: the run leaves the plain mean of its last weights (Izmailov et al. 2018, https://arxiv.org/abs/1803.05407)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field, PrivateAttr

from peftlab.core.method import MethodContext
from peftlab.core.regularizer import REGULARIZERS
from peftlab.regularizers._averages import WeightAverage

if TYPE_CHECKING:
    from torch import nn


@REGULARIZERS.register("swa")
class Swa(WeightAverage):
    """SWA: evaluation and artifact take the mean of the weights of the last steps."""

    paper: ClassVar[str] = "https://arxiv.org/abs/1803.05407"
    not_with: ClassVar[tuple[str, ...]] = ("ema",)

    start: float = Field(0.75, ge=0, lt=1, description="The share of all steps after which the mean begins.")

    _before: int = PrivateAttr(0)

    def begin(self, model: nn.Module, context: MethodContext) -> None:
        """Note how many steps are not in the mean."""
        self._before = int(self.start * context.total_steps)

    def after_step(self, model: nn.Module, step: int) -> None:
        """Take the weights into the mean, each like all others; before it begins it is the weights as they are."""
        self._move_mean(model, 1 / max(1, step - self._before))

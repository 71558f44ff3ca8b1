"""SWA: the run leaves the plain mean of its last weights (Izmailov et al. 2018, https://arxiv.org/abs/1803.05407)."""

from __future__ import annotations

from collections.abc import Mapping
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
    _last: int = PrivateAttr(0)

    def begin(self, model: nn.Module, context: MethodContext) -> None:
        """Note how many steps are not in the mean."""
        self._before = int(self.start * context.total_steps)

    def after_step(self, model: nn.Module, step: int) -> None:
        """Take the weights into the mean, each like all others; before it begins it is the weights as they are."""
        self._last = step
        self._move_mean(model, 1 / max(1, step - self._before))

    def notices(self) -> Mapping[str, str]:
        """That there is no mean, where training was stopped early."""
        if self._last > self._before:
            return {}
        told = f"training ended with step {self._last}, and the mean begins after step {self._before}: there is none"
        return {"swa": told}

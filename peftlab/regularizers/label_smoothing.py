"""Label smoothing: no class is ever quite certain (Szegedy et al. 2016, https://arxiv.org/abs/1512.00567)."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from peftlab.core.regularizer import REGULARIZERS
from peftlab.core.task import Task
from peftlab.regularizers._classes import NeedsClasses


@REGULARIZERS.register("label_smoothing")
class LabelSmoothing(NeedsClasses):
    """Label smoothing: a share of each target is spread over all classes alike."""

    paper: ClassVar[str] = "https://arxiv.org/abs/1512.00567"

    epsilon: float = Field(0.1, gt=0, lt=1, description="Share of each target that is spread over all classes.")

    def training_task(self, task: Task) -> Task:
        """The task whose loss is smoothed; evaluation keeps the plain one."""
        return task.with_label_smoothing(self.epsilon)

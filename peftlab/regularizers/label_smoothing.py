"""Label smoothing: no class is ever quite certain (Szegedy et al. 2016, https://arxiv.org/abs/1512.00567)."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from peftlab.core.errors import UnsupportedError
from peftlab.core.method import Method
from peftlab.core.model_facts import ModelFacts
from peftlab.core.regularizer import REGULARIZERS, Regularizer
from peftlab.core.task import Task


@REGULARIZERS.register("label_smoothing")
class LabelSmoothing(Regularizer):
    """Label smoothing: a share of each target is spread over all classes alike."""

    paper: ClassVar[str] = "https://arxiv.org/abs/1512.00567"

    epsilon: float = Field(0.1, gt=0, lt=1, description="The share of each target that all classes have alike.")

    def check(self, task: Task, method: Method, facts: ModelFacts) -> None:
        """Refuse tasks whose targets are no classes."""
        if not task.has_class_targets:
            raise UnsupportedError(
                "label_smoothing needs a task in which each target is one class",
                hint="Leave it out: numbers, and several labels per text, are no classes to spread a target over.",
            )

    def training_task(self, task: Task) -> Task:
        """The task whose loss is smoothed; evaluation keeps the plain one."""
        return task.with_label_smoothing(self.epsilon)

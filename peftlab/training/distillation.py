"""Distillation: beside the classes of its rows, a run learns what finished runs say of them.

Hinton et al. 2015, https://arxiv.org/abs/1503.02531: for logits z and a temperature T the loss of a row is

    (1 − w) · cross-entropy(z) + w · T² · KL(p ‖ softmax(z / T)),

where p is the mean of the teachers' softmax at the same temperature. Its gradient is that of the paper's cross-entropy
with p; by T² both parts keep their sizes when T changes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, cast

from pydantic import Field, PositiveFloat

from peftlab.core.config import Config
from peftlab.core.errors import UnsupportedError
from peftlab.core.hooks import TrainingHooks
from peftlab.core.splits import Example
from peftlab.core.task import Task
from peftlab.core.task_objective import SOFT_TARGETS

if TYPE_CHECKING:
    from torch import Tensor, nn


class Distillation(Config):
    """Learn from finished runs: what they say of a training row is its second label."""

    teachers: list[str] = Field(
        min_length=1, description="Folders of finished runs, or of ensembles, of this task with the same classes."
    )
    temperature: PositiveFloat = Field(
        2.0, description="Divides the logits of teachers and student: the higher, the more unlikely classes count."
    )
    weight: float = Field(
        0.9,
        gt=0,
        le=1,
        description="Of what the teachers say; the rows' own labels have the rest.",
    )

    def check(self, task: Task) -> None:
        """Refuse tasks whose examples have no one class each.

        Raises:
            UnsupportedError: With the reason.
        """
        if not (task.has_class_targets and task.pools_answers):
            raise UnsupportedError(
                f"a teacher's answers are learned where each text has one class, and {task.registered_name} with these "
                "settings does not say that",
                hint="Choose a task such as text_classification, with one label a text and without focal loss.",
            )


class LearnsFromTeachers(TrainingHooks):
    """The hook of a run with ``training.distillation``; it comes last, since it builds on the loss of the others."""

    registered_name: ClassVar[str] = "distillation"

    settings: Distillation

    def training_task(self, task: Task) -> Task:
        """The task whose loss minds what the teachers say."""
        return cast("Task", _TaughtTask(task, self.settings))


def soft_targets(logits: Sequence[Tensor], temperature: float) -> Tensor:
    """The mean of several models' probabilities at a temperature.

    Args:
        logits: Of each model: rows × classes.
        temperature: Divides them.
    """
    return sum((each.float() / temperature).softmax(dim=-1) for each in logits) / len(logits)  # type: ignore[return-value]


class _TaughtTask:
    """A task whose batches hold the teachers' answers, and whose loss minds them.

    Args:
        task: As it is without.
        settings: Temperature and weight.
    """

    roll_out = Task.roll_out
    """A task with class targets makes nothing between steps."""

    def __init__(self, task: Task, settings: Distillation) -> None:
        self._task, self._settings = task, settings

    def collate(self, examples: Sequence[Example], pad_token_id: int) -> dict[str, Tensor]:
        """The batch, with the probabilities that the examples hold; an estimate's placeholders have none."""
        import torch

        batch = self._task.collate(examples, pad_token_id)
        if SOFT_TARGETS in examples[0]:
            batch[SOFT_TARGETS] = torch.tensor([example[SOFT_TARGETS] for example in examples])
        return batch

    def training_loss(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """``loss`` of the task's logits."""
        return self.loss(self._task.logits(model, batch), batch)

    def loss(self, logits: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        """Both parts, summed over the examples."""
        from torch.nn import functional

        hard = self._task.loss(logits, batch)
        if SOFT_TARGETS not in batch:
            return hard
        weight, temperature = self._settings.weight, self._settings.temperature
        said = (self._task.class_terms(logits, batch)[0] / temperature).log_softmax(dim=-1)
        divergence = functional.kl_div(said, batch[SOFT_TARGETS], reduction="sum")
        return (1 - weight) * hard + weight * temperature**2 * divergence

    def __getattr__(self, name: str) -> Any:
        return getattr(self._task, name)

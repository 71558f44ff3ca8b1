"""The contract of a task: rows into examples, examples into a loss, logits into answers; each part has its own file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import PrivateAttr

from peftlab.core.capabilities import EmbedsText, GeneratesText, JudgesResponses, ScoresPairs, check_capabilities
from peftlab.core.config import RegisteredConfig
from peftlab.core.record import Guard
from peftlab.core.registry import Registry
from peftlab.core.splits import Example
from peftlab.core.task_answers import Comparison, Inference, Prediction, Result, Scorer, TaskAnswers
from peftlab.core.task_objective import Head, Policy, RollOut, TaskObjective, UntouchedBase
from peftlab.core.task_rows import TaskRows

if TYPE_CHECKING:
    from torch import nn

__all__ = [
    "TASKS",
    "Comparison",
    "EmbedsText",
    "GeneratesText",
    "Head",
    "Inference",
    "JudgesResponses",
    "Policy",
    "Prediction",
    "Result",
    "RollOut",
    "Scorer",
    "ScoresPairs",
    "Task",
    "UntouchedBase",
]


class Task(RegisteredConfig, TaskRows, TaskObjective, TaskAnswers):
    """A task. The docstring's first line is what ``peftlab ls tasks`` shows.

    Its fields are the keys of the recipe's section ``task``. What it does is in three parts: see
    :class:`~peftlab.core.task_rows.TaskRows`, :class:`~peftlab.core.task_objective.TaskObjective` and
    :class:`~peftlab.core.task_answers.TaskAnswers`.
    """

    if TYPE_CHECKING:  # a class that was looked up by its name takes its own keys

        def __init__(self, **keys: Any) -> None: ...

    capabilities: ClassVar[tuple[type, ...]] = ()
    """What the task can do beside predicting, of ``peftlab.core.capabilities``; checked when it is registered."""

    _learned: dict[str, Any] = PrivateAttr(default_factory=dict)
    _label_smoothing: float = PrivateAttr(0.0)
    _class_weights: tuple[float, ...] | None = PrivateAttr(None)

    @classmethod
    def __pydantic_init_subclass__(cls, **options: Any) -> None:
        """Refuse a task that declares what it does not have.

        Raises:
            ConfigError: Naming what is missing.
        """
        super().__pydantic_init_subclass__(**options)
        check_capabilities(cls, cls.capabilities)

    def fitted(self, learned: Mapping[str, Any]) -> Self:
        """The same task, with what :meth:`learn` gave when the model was trained."""
        task = self.model_copy()
        task._learned = dict(learned)
        return task

    @property
    def learned(self) -> Mapping[str, Any]:
        """What :meth:`learn` gave; empty before."""
        return self._learned

    @property
    def label_smoothing(self) -> float:
        """The share of each target that the loss of a task with class targets spreads over all classes alike."""
        return self._label_smoothing

    def with_label_smoothing(self, share: float) -> Self:
        """The same task with another such share; its predictions and metrics stay as they are."""
        task = self.model_copy()
        task._label_smoothing = share
        return task

    @property
    def class_weights(self) -> tuple[float, ...] | None:
        """What the loss of each class is multiplied by, for a task that ``takes_class_weights``; None: all by 1."""
        return self._class_weights

    def with_class_weights(self, weights: tuple[float, ...] | None) -> Self:
        """The same task with other such weights; its predictions and metrics stay as they are."""
        task = self.model_copy()
        task._class_weights = weights
        return task

    def is_learned_alike(self, other: Task) -> bool:
        """Whether what two runs learned of their data is so alike that their models can be mixed."""
        return self.learned == other.learned

    def predict_examples(
        self, model: nn.Module, examples: Sequence[Example], pad_token_id: int, inference: Inference
    ) -> list[Prediction]:
        """What the model, in eval mode, says of examples. By default ``predict`` of ``logits``."""
        batch = self.collate(examples, pad_token_id)
        logits = inference.compute(self.logits, model, batch)
        return self.predict(logits.cpu(), batch, inference.labels)

    def guards_at_start(
        self, policy: Policy, examples: Sequence[Example], *, starts_as_base: bool
    ) -> Mapping[str, Guard]:
        """Checks of the wrapped model before its first step; ``guard_names`` lists their names.

        Args:
            policy: The model in eval mode, and how it is asked.
            examples: A batch of the training split, with what ``prepare`` gave.
            starts_as_base: Whether the method says that the model computes just what the base does.
        """
        return {}

    def course_notices(self, log: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
        """What a person should know of how training went; sentences are told, and all is kept in the record.

        Args:
            log: The lines of ``metrics.jsonl``: of steps, with what ``roll_out`` gave beside the loss, and of
                evaluations, under ``validation``.
        """
        return {}

    def complete(self, model: nn.Module, *, may_add: bool) -> Task:
        """Build into a merged model, in place, what ``predict`` does to its logits: for tools that know no peftlab.

        Args:
            model: With plain layers.
            may_add: Whether parameters may be added that the architecture does not have.

        Returns:
            The task whose ``predict`` takes what the model gives now.
        """
        return self


TASKS: Registry[Task] = Registry("task", package="peftlab.tasks", entry_point_group="peftlab.tasks", base=Task)

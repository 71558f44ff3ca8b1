"""The contract of a regulariser: training hooks that keep a model from learning its few examples by heart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

from peftlab.core.errors import ConfigError, UnsupportedError
from peftlab.core.hooks import TrainingHooks
from peftlab.core.registry import Registry

if TYPE_CHECKING:
    from peftlab.core.method import Method
    from peftlab.core.model_facts import ModelFacts
    from peftlab.core.splits import Split
    from peftlab.core.task import Task


@dataclass(frozen=True)
class TrainingSetup:
    """What a regulariser is to be used with.

    Args:
        task: Of the recipe.
        method: Of the recipe.
        facts: Of the base model.
        has_dropout: Whether something may be dropped at random while training; what is, shows in the first pass.
        goes_on: Whether the run begins with the weights of an earlier one.
    """

    task: Task
    method: Method
    facts: ModelFacts
    has_dropout: bool
    goes_on: bool = False


class Regularizer(TrainingHooks):
    """A regulariser. The docstring's first line is what ``peftlab ls regularizers`` shows.

    An object of the class is a part of the recipe. A run works with a copy of it, which may keep what it remembers in
    private attributes.
    """

    if TYPE_CHECKING:  # a class that was looked up by its name takes its own keys

        def __init__(self, **keys: Any) -> None: ...

    paper: ClassVar[str] = ""
    """Where it comes from: a link."""
    passes: ClassVar[float] = 1.0
    """Forward and backward passes of a step over a frozen base, with its default settings; one is enough without it."""
    memory: ClassVar[str] = "none"
    """What it takes beside, in a few words; ``peftlab estimate`` tells the bytes."""
    default_rate_factor: ClassVar[float] = 1.0
    """What the method's default learning rate is multiplied by, where the recipe names none."""
    needs_validation: ClassVar[bool] = False
    """Whether it chooses by the validation split, so that there must be one."""
    not_with: ClassVar[tuple[str, ...]] = ()
    """Names of regularisers that contradict this one."""
    replaces_loss: ClassVar[bool] = False
    """Whether its ``around_backward`` puts a loss in the place of ``backward.loss`` that is not made of that. Of two of
    them the inner one would do away with the outer one's."""
    least_batch: ClassVar[int] = 1
    """Examples that must be computed at once, for with fewer it does nothing."""
    one_process: ClassVar[bool] = False
    """Whether it learns something by its own gradients, which several processes would have to share."""

    needs_past: ClassVar[bool] = False
    """Whether it holds on to what an earlier run learned, so that it says nothing to a run that goes on from none."""

    def passes_of(self, *, trains_base: bool) -> float:
        """What a step computes with these settings, in passes of plain training.

        Args:
            trains_base: Whether the whole base trains; then a pass computes the gradients of its weights too.
        """
        return self.passes

    def check(self, setup: TrainingSetup) -> None:
        """Refuse a task, a method or a model that it cannot be used with, before anything is loaded.

        Raises:
            UnsupportedError: With the reason.
        """

    @classmethod
    def comes_with(cls, setup: TrainingSetup) -> bool:
        """Whether such a training has it where the recipe does not name it, since the base was trained so."""
        return False

    def source_columns(self) -> tuple[str, ...]:
        """Columns of the training rows that it reads beside the task's."""
        return ()

    def learn(self, train: Split) -> Self:
        """The regulariser with what it leaves open, as the training rows say; it becomes a part of the recipe.

        Args:
            train: With the columns that it reads; one that the source lacks is None in every row.

        Raises:
            DataError: The rows cannot be used.
        """
        return self

    def example_values(self, train: Split) -> Mapping[str, Sequence[Any]]:
        """What each training example is to hold beside what the task encodes: by key, a value for each row."""
        return {}


def in_passes(*, forward: float, backward: float, weights: float, trains_base: bool) -> float:
    """Work in passes of plain training, whose parts take about equal time.

    Args:
        forward: Forward passes.
        backward: Backward passes through the activations, down to the embeddings.
        weights: Of these, how many compute the gradients of weights too.
        trains_base: Whether those are the base's; else they cost nothing.
    """
    return (forward + backward + weights) / 3 if trains_base else (forward + backward) / 2


REGULARIZERS: Registry[Regularizer] = Registry(
    "regularizer", package="peftlab.regularizers", entry_point_group="peftlab.regularizers", base=Regularizer
)


def check_together(regularizers: Sequence[Regularizer]) -> None:
    """Refuse two of one kind, and two that contradict each other.

    Raises:
        ConfigError: Naming both.
    """
    names = [each.registered_name for each in regularizers]
    for position, each in enumerate(regularizers):
        if each.registered_name in names[:position]:
            raise ConfigError(f"the regularizer `{each.registered_name}` is there twice; write it once")
        for other in names:
            if other in each.not_with:
                raise ConfigError(f"the regularizers `{each.registered_name}` and `{other}` contradict each other")
    if len(losses := [each.registered_name for each in regularizers if each.replaces_loss]) > 1:
        raise ConfigError(
            f"the regularizers `{losses[0]}` and `{losses[1]}` contradict each other: each has a loss of its own, "
            "and only one of them would count"
        )


def check_past(regularizer: Regularizer, *, goes_on: bool) -> None:
    """Refuse a regulariser that holds on to an earlier run's weights, where there are none.

    Raises:
        UnsupportedError: With the reason.
    """
    if regularizer.needs_past and not goes_on:
        raise UnsupportedError(
            f"{regularizer.registered_name} holds on to what an earlier run learned, and this one begins with a base",
            hint="Use it with `peftlab continue RUN`, or name a run in `continues`.",
        )

"""The contract of a selection strategy: which texts of a pool should be given labels next."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from peftlab.core.config import RegisteredConfig
from peftlab.core.errors import RunFailedError, UnsupportedError
from peftlab.core.given_values import check_kind
from peftlab.core.registry import Registry

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from peftlab.core.task import Task

    Floats = NDArray[np.float64]

Evidence = Literal["probabilities", "vectors", "labelled_probabilities", "labelled_vectors"]
"""What a strategy can ask for; the names are fields of :class:`Candidates`."""


PROBABILITIES = frozenset[Evidence]({"probabilities", "labelled_probabilities"})


def _nothing() -> Floats:
    import numpy as np

    return np.zeros((0, 0))


@dataclass(frozen=True)
class Candidates:
    """What is known of the texts to choose from. A strategy finds here what it names in ``uses``; the rest is empty.

    Args:
        count: How many texts there are.
        classes: Names of the classes.
        probabilities: Of each class for each text (texts × classes), calibrated.
        vectors: Of each text (texts × size): the mean of the last layer's states.
        labelled_probabilities: As ``probabilities``, of the run's training texts.
        labelled_vectors: As ``vectors``, of the run's training texts.
    """

    count: int
    classes: tuple[str, ...] = ()
    probabilities: Floats = field(default_factory=_nothing)
    vectors: Floats = field(default_factory=_nothing)
    labelled_probabilities: Floats = field(default_factory=_nothing)
    labelled_vectors: Floats = field(default_factory=_nothing)


@dataclass(frozen=True)
class Choice:
    """A text that should be given a label.

    Args:
        position: Among the candidates, from 0.
        score: What it was chosen by, in the strategy's own unit; None where there is no such number.
        reason: Why, for a person.
    """

    position: int
    score: float | None
    reason: str


class Strategy(RegisteredConfig, ABC):
    """A strategy. The docstring's first line is what ``peftlab ls strategies`` shows.

    Its fields are what ``peftlab select --set`` takes.
    """

    if TYPE_CHECKING:  # a class that was looked up by its name takes its own keys

        def __init__(self, **keys: Any) -> None: ...

    paper: ClassVar[str] = ""
    """Where it comes from: a link."""

    @property
    def uses(self) -> frozenset[Evidence]:
        """What it must know of the candidates; by default nothing."""
        return frozenset()

    @abstractmethod
    def select(self, candidates: Candidates, count: int, generator: np.random.Generator) -> Sequence[Choice]:
        """Choose texts that are worth a label together, the best first.

        Args:
            candidates: At least ``count``.
            count: How many to choose.
            generator: The only source of chance.
        """


def labels_name(labels: int) -> str:
    """What a number of labelled rows is called in the names of a label curve's cells."""
    return f"labels-{labels}"


def check_strategy(strategy: Strategy, task: Task, *, where: str) -> None:
    """Refuse a strategy that asks for what the task's model does not say.

    Raises:
        UnsupportedError: With the strategies that do without.
    """
    gives_vectors = task.predicts_from_logits and task.labels_by_row
    if strategy.uses & PROBABILITIES and not task.has_class_probabilities:
        raise UnsupportedError(
            f"the strategy `{strategy.registered_name}` needs the probability of each class, and a run of "
            f"{task.registered_name} gives none that add up to 1 for a text",
            where=where,
            hint="Choose core_set, discriminative or random." if gives_vectors else "Choose random.",
        )
    if strategy.uses and not gives_vectors:
        raise UnsupportedError(
            f"the strategy `{strategy.registered_name}` needs a vector of each text, and a run of "
            f"{task.registered_name} gives none",
            where=where,
            hint="Choose random.",
        )


STRATEGIES: Registry[Strategy] = Registry(
    "strategy", package="peftlab.selection.strategies", entry_point_group="peftlab.strategies", base=Strategy
)


def choose(strategy: Strategy, candidates: Candidates, count: int, *, seed: int) -> Sequence[Choice]:
    """What a strategy chooses, checked.

    Raises:
        RunFailedError: It has chosen a text twice, or too few, or one that is not there.
        PluginError: What it gives are no choices.
    """
    import numpy as np

    choices = strategy.select(candidates, count, np.random.default_rng(seed))
    what, hint = f"the strategy `{strategy.registered_name}`", "Return a list of Choice(position, score, reason)."
    check_kind(choices, Sequence, what=what, hint=hint)
    for choice in choices:
        check_kind(choice, Choice, what=what, hint=hint)
    positions = {choice.position for choice in choices}
    if len(choices) != count or len(positions) != count or not positions <= set(range(candidates.count)):
        raise RunFailedError(
            f"the strategy `{strategy.registered_name}` was to choose {count} of {candidates.count} texts, and gave "
            f"{len(choices)} choices of {len(positions)} different texts"
        )
    return choices

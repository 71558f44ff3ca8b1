"""``training.class_weights``: what the loss of each class is multiplied by while training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal

from peftlab.core.errors import ConfigError, UnsupportedError, did_you_mean
from peftlab.core.splits import Example
from peftlab.core.task import Task

KEY = "training.class_weights"
ClassWeights = Literal["balanced"] | Mapping[str, float] | None


def check_class_weights(task: Task, wanted: ClassWeights) -> None:
    """Refuse weights for a task without classes.

    Raises:
        UnsupportedError: With the reason.
    """
    if wanted is not None and not task.takes_class_weights:
        raise UnsupportedError(
            f"{task.registered_name} has no classes to weigh as this recipe uses it",
            where=KEY,
            hint="Leave it out: only tasks in which each target is one class take weights.",
        )


def check_class_names(wanted: ClassWeights, labels: Sequence[str]) -> None:
    """Refuse weights of classes that there are not.

    Raises:
        ConfigError: Naming one.
    """
    if wanted is None or wanted == "balanced":
        return
    unknown = next((name for name in wanted if name not in labels), None)
    if unknown is not None:
        raise ConfigError(
            f"there is no class `{unknown}` in the training data",
            where=KEY,
            hint=did_you_mean(unknown, labels) or f"The classes are {', '.join(labels)}.",
        )


def weighted_task(task: Task, wanted: ClassWeights, examples: Sequence[Example], labels: Sequence[str]) -> Task:
    """The task as it is trained.

    ``balanced`` gives the class c the weight n / (k · n_c), as scikit-learn does: n terms in all, k classes that occur,
    n_c terms of this one. So the weights' mean over the terms is 1, and the learning rate keeps its meaning.

    Args:
        task: Of the recipe.
        wanted: As the recipe says.
        examples: Of the training split.
        labels: Names of the classes, in the order of the logits.
    """
    if wanted is None:
        return task
    if wanted != "balanced":
        return task.with_class_weights(tuple(float(wanted.get(name, 1.0)) for name in labels))
    counts = Counter(index for example in examples for index in task.class_indices(example))
    share = sum(counts.values()) / max(1, len(counts))
    return task.with_class_weights(
        tuple(share / counts[index] if counts[index] else 1.0 for index in range(len(labels)))
    )

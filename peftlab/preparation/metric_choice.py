"""Which metric chooses the epoch: one that can tell one epoch from another on the validation split."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from peftlab.core.config import replace_config
from peftlab.core.errors import ConfigError
from peftlab.core.reporter import ProgressCallback
from peftlab.core.splits import Split
from peftlab.core.task import Task
from peftlab.data.splits import LoadedData
from peftlab.recipe.schema import Recipe


def choose_metric(
    recipe: Recipe, data: LoadedData, labels: tuple[str, ...], say: ProgressCallback, *, is_named: bool
) -> Recipe:
    """The recipe with a metric that can tell one epoch from another on the validation split.

    Args:
        recipe: Settled.
        data: Its splits.
        labels: Names of the classes.
        say: Is told where the metric is not the usual one.
        is_named: Whether the metric is the user's choice, and not the task's default.

    Raises:
        ConfigError: The metric that the recipe names cannot, or there is none that can.
    """
    task, validation = recipe.task, data.splits.get("validation")
    first = recipe.evaluation.metric if is_named else task.default_metric(validation)
    assert first is not None  # noqa: S101 - the recipe is settled
    if validation is None:
        return recipe
    reason = task.why_not_measured(first, validation, labels)
    if reason is None and first == recipe.evaluation.metric:
        return recipe
    fitting = fitting_metrics(task, validation, labels)
    if reason is not None and (is_named or not fitting):
        raise ConfigError(
            f"the metric `{first}` cannot choose an epoch on the validation split: {reason}",
            where="evaluation.metric",
            hint=f"Choose one of {', '.join(fitting)}; or change the validation rows."
            if fitting
            else "Change the validation rows.",
        )
    chosen = first if reason is None else fitting[0]
    say(
        f"the metric is {chosen}, not the task's usual {task.metrics[0]}: "
        + (reason or "it fits these validation rows better")
    )
    return with_metric(recipe, chosen)


def common_metric(choices: Sequence[tuple[Recipe, LoadedData, tuple[str, ...]]]) -> str | None:
    """The metric that measures all of several validation splits, so that one suite has one.

    Args:
        choices: Recipes of one task, each with the metric that :func:`choose_metric` has found for its data, the data,
            and the names of the classes.

    Returns:
        What all have chosen, where they agree; else the first that fits them all; None: there is none.
    """
    chosen = [str(recipe.evaluation.metric) for recipe, _, _ in choices]
    task = choices[0][0].task
    for metric in dict.fromkeys([*([chosen[0]] if len(set(chosen)) == 1 else []), *chosen, *task.metrics]):
        if all(
            "validation" not in data.splits
            or recipe.task.why_not_measured(metric, data.splits["validation"], labels) is None
            for recipe, data, labels in choices
        ):
            return metric
    return None


def fitting_metrics(task: Task, validation: Split, labels: tuple[str, ...]) -> list[str]:
    """The task's metrics that can tell one epoch from another on a split."""
    return [name for name in task.metrics if task.why_not_measured(name, validation, labels) is None]


def silent_metrics(task: Task, metrics: Iterable[str], split: Split, labels: tuple[str, ...]) -> list[str]:
    """Which metrics say nothing on a split, whatever the model, and why: a sentence for each reason."""
    by_reason: dict[str, list[str]] = {}
    for metric in metrics:
        reason = task.why_not_measured(metric, split, labels)
        if reason is not None:
            by_reason.setdefault(reason, []).append(metric)
    return [
        f"{', '.join(names)} {'says' if len(names) == 1 else 'say'} nothing of the model on these rows: {reason}."
        for reason, names in by_reason.items()
    ]


def with_metric(recipe: Recipe, metric: str) -> Recipe:
    """The recipe with another metric."""
    return replace_config(recipe, evaluation=replace_config(recipe.evaluation, metric=metric))

"""What a base in parts cannot take, before anything is loaded."""

from __future__ import annotations

from peftlab.core.errors import UnsupportedError
from peftlab.core.hooks import TrainingHooks
from peftlab.core.task import Task
from peftlab.recipe.schema import Recipe
from peftlab.training.optimizer_choice import optimizer_name

WITH_WHOLE_BASE = ("adamw", "sgd")
"""Optimizers that look at each number alone, and so at a part as at the whole."""
ABOUT_PARAMETERS = ("begin", "after_step", "penalty", "state", "weights_to_keep")
"""Hooks that look at parameters."""


def check_sharding(recipe: Recipe) -> None:
    """Refuse settings that do not go with ``training.sharding``.

    Raises:
        UnsupportedError: Naming the key.
    """
    for key, reason in _reasons(recipe).items():
        raise UnsupportedError(
            f"{reason}, and training.sharding puts the base in parts",
            where=key,
            hint="Change it, or leave sharding out.",
        )


def _reasons(recipe: Recipe) -> dict[str, str]:
    """Why it cannot be, by key."""
    model, training, task, method = recipe.model, recipe.training, recipe.task, recipe.method
    trains_base, optimizer = method.trains_base, optimizer_name(training.optimizer)
    found: dict[str, str | None] = {
        "model.offload": model.offload and "an offloaded base lies elsewhere",
        "model.quantization": "the scales of an 8-bit matrix move from parameter to layer at the first pass"
        if model.quantization == "int8"
        else None,
        "training.micro_batch_size": "where one process runs out of memory, the others wait for it within a pass"
        if training.micro_batch_size == "auto"
        else None,
        "training.cuda_graphs": "a recorded step exchanges nothing" if training.cuda_graphs == "on" else None,
        "training.compile": "compiled blocks with exchanges were never tried" if training.compile != "off" else None,
        "training.optimizer": f"{optimizer} looks at whole matrices or blocks of them"
        if trains_base and optimizer not in WITH_WHOLE_BASE
        else None,
        "training.precision": "the scale of float16 is not kept over parts"
        if trains_base and "float16" in (training.precision, model.dtype)
        else None,
        f"method.{method.unsharded_key}": None
        if method.works_sharded
        else f"{method.registered_name} was not shown to work on parts of the base",
        "task.type": _why_not_the_task(task),
    }
    for hook in training.regularizers if trains_base else ():
        if any(getattr(type(hook), name) is not getattr(TrainingHooks, name) for name in ABOUT_PARAMETERS):
            found["training.regularizers"] = f"`{hook.registered_name}` looks at whole parameters"
    return {key: reason for key, reason in found.items() if reason}


def _why_not_the_task(task: Task) -> str | None:
    if type(task).roll_out is not Task.roll_out:
        return "the first process alone writes texts between steps"
    return None if task.divisible else "not all processes compute as many parts of a batch that is compared as a whole"

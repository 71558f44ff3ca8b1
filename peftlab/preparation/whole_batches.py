"""Tasks whose examples are compared within a batch: what would cut a batch is refused, since the loss would change.

Micro-batches are allowed where the task caches gradients: then the loss stays that of the whole batch.
"""

from __future__ import annotations

from peftlab.core.errors import UnsupportedError
from peftlab.core.hooks import TrainingHooks
from peftlab.recipe.schema import Recipe


def check_whole_batches(recipe: Recipe) -> None:
    """Refuse settings that cut a step into parts, where the task's batches cannot be cut.

    Raises:
        UnsupportedError: Naming the key.
    """
    training = recipe.training
    if recipe.task.divisible:
        return
    if isinstance(training.micro_batch_size, int) and recipe.task.caches_gradients:
        for hook in recipe.training_hooks():
            if type(hook).around_backward is not TrainingHooks.around_backward:
                raise UnsupportedError(
                    f"`{hook.registered_name}` works around the whole backward pass, which is not computed in parts",
                    where="training.micro_batch_size",
                    hint=f"Leave out the key, or `{hook.registered_name}`.",
                )
    parting = {
        "micro_batch_size": isinstance(training.micro_batch_size, int) and not recipe.task.caches_gradients,
        "max_tokens_per_batch": training.max_tokens_per_batch is not None,
        "gradient_accumulation_steps": training.gradient_accumulation_steps > 1,
    }
    for key, is_set in parting.items():
        if is_set:
            raise UnsupportedError(
                f"{recipe.task.registered_name} compares the examples of a batch with one another, so that a batch "
                "which is cut has another loss",
                where=f"training.{key}",
                hint="Leave the key out, and set training.batch_size to as many examples as are to be compared.",
            )

"""What a run looks at before it loads any weights: whether it fits, and how many examples at once."""

from __future__ import annotations

from collections.abc import Callable

from peftlab.core.amounts import short_size
from peftlab.core.errors import UnsupportedError
from peftlab.estimate.bounds import is_surely_small
from peftlab.estimate.data import batch_of, with_new_facts
from peftlab.estimate.search import largest_fitting
from peftlab.estimate.target import Target
from peftlab.estimate.training import ShapesOfRecipe
from peftlab.preparation.check import CheckedRecipe
from peftlab.preparation.loading import Loader
from peftlab.training.micro_batches import MicroBatches


def plan_micro_batches(
    checked: CheckedRecipe, loader: Loader, target: Target, *, say: Callable[[str], None]
) -> MicroBatches:
    """Tell whether a run will fit into memory, and choose its micro-batch.

    Args:
        checked: The recipe with its data.
        loader: Has tokenised the data.
        target: The device that it will run on.
        say: Takes a line for the user; nothing is said where all fits.

    Returns:
        The micro-batches to begin with: the recipe's, or with ``auto`` the largest that fits by estimate.
    """
    checked = with_new_facts(checked, loader)
    setting = checked.recipe.training.micro_batch_size
    task = checked.recipe.task
    micro_batches = MicroBatches(
        setting if isinstance(setting, int) else None,
        may_shrink=setting == "auto" and task.computes_in_parts,
        cuts_batches=task.divisible,
    )
    memory = target.memory_bytes
    whole = batch_of(loader, micro_batches.size, target.processes)
    if memory is None or is_surely_small(
        checked.recipe, checked.facts, texts=whole.size, length=whole.length, device=target.name, memory=memory
    ):
        return micro_batches
    try:
        shapes = ShapesOfRecipe(checked, checked.labels, target)

        def peak(size: int | None) -> int:
            phases = shapes.memory(batch_of(loader, size, target.processes)).phases
            return max(phases.get("train", 0), phases.get("start", 0))

        needed = peak(micro_batches.size)
        if needed <= memory:
            return micro_batches
        if micro_batches.may_shrink and whole.size > 1:
            size = largest_fitting(peak, memory, start=max(1, whole.size // 2), limit=whole.size - 1)
            if size is not None:
                say(f"{size} of {whole.size} examples are computed at once: as many as should fit")
                micro_batches.size = size
                return micro_batches
    except UnsupportedError as error:
        say(f"the memory of this run cannot be estimated: {error.message}")
        return micro_batches
    say(
        f"warning: the training is estimated at {short_size(needed)}, and {target.name} has {short_size(memory)}; "
        "`peftlab estimate` tells what would make it fit"
    )
    return micro_batches

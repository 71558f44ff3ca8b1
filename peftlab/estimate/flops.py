"""The FLOPs of training steps, counted on shapes.

With real numbers, plain attention over a long text may take more memory than all of training.
"""

from __future__ import annotations

from peftlab.core.errors import UnsupportedError
from peftlab.core.generators import kept_generators
from peftlab.core.reporter import ProgressCallback
from peftlab.estimate.bounds import text_bytes
from peftlab.estimate.data import with_new_facts
from peftlab.estimate.target import Target
from peftlab.estimate.training import ShapesOfRecipe
from peftlab.measurement.roofline import StepFlops
from peftlab.preparation.check import CheckedRecipe
from peftlab.preparation.loading import Loader

FEW_BYTES = 128 << 20
"""Counting that takes less is done with real numbers: on small models that is faster than to build their shapes."""


def is_cheap_to_count(checked: CheckedRecipe, loader: Loader) -> bool:
    """Whether FLOPs can be counted with real numbers, as their memory does not matter."""
    facts = with_new_facts(checked, loader).facts
    needed = text_bytes(facts, max(loader.train_lengths(), default=0))
    return needed is not None and needed <= FEW_BYTES


def count_step_flops(
    checked: CheckedRecipe, loader: Loader, target: Target, *, say: ProgressCallback
) -> StepFlops | None:
    """The FLOPs of a training step as a function of its texts' lengths, without any numbers in memory.

    Args:
        checked: The recipe with its data.
        loader: Has tokenised the data.
        target: The device that the run is on.
        say: Is told where they cannot be counted.

    Returns:
        None where model or task decide by values what they compute.
    """
    checked = with_new_facts(checked, loader)
    try:
        with kept_generators():
            return ShapesOfRecipe(checked, checked.labels, target).step_flops(loader.splits["train"], loader.pairs)
    except UnsupportedError as error:
        say(f"FLOPs are not counted: {error.message}")
        return None

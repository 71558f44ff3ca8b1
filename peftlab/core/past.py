"""What a run that goes on from an earlier one can ask of that one, for hooks that hold on to what it learned."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from peftlab.core.task import Task

EARLIER_TEST = "test_earlier_"
"""Begins the names of splits: ``test_earlier_1`` has the test rows of the first of all runs that came before."""
BEFORE = "before_"
"""Begins the names of splits in ``predictions.parquet``: what the earlier run says of the rows of one."""
START = "start_"
"""The same of a model that began with the base's weights, before its first step."""


@dataclass(frozen=True)
class Past:
    """The earlier run, as a hook sees it; the model has its weights.

    Args:
        task: Computes logits and losses.
        examples: Gives so many of the rows that the earlier run learned newly, drawn by the seed, each as a batch on
            the model's device.
        kept: What the same hook remembered in the earlier run, if that went on from another one.
    """

    task: Task
    examples: Callable[[int], Iterator[Mapping[str, Tensor]]]
    kept: Mapping[str, Tensor]

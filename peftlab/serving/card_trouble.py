"""What a service does when memory runs out, or its card has failed.

The traceback of an error holds all tensors of the pass that has failed. It is dropped, else there would be no room for
the next batch either, until Python looks for circles.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from peftlab.core.errors import RunFailedError, first_line
from peftlab.training.micro_batches import is_out_of_memory

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class NoMemoryError(RunFailedError):
    """There is no memory for what is asked; for something smaller there may be."""


class CardFailedError(RunFailedError):
    """The card takes no work of this process any more, whatever it is."""


def in_parts(answer: Callable[[Sequence[Item]], Sequence[Answer]], items: Sequence[Item]) -> Sequence[Answer]:
    """Answers for all items; where memory runs out, for one half after the other.

    Raises:
        NoMemoryError: There is too little for one of them alone.
        CardFailedError: The card has failed.
    """
    try:
        return answer(items)
    except Exception as error:
        trouble = told(error)
        if trouble is error:
            raise
    # Here the error is gone, and with it the tensors that its traceback held.
    if not isinstance(trouble, NoMemoryError) or len(items) == 1:
        raise trouble
    half = (len(items) + 1) // 2
    return [*in_parts(answer, items[:half]), *in_parts(answer, items[half:])]


def told(error: Exception) -> Exception:
    """What those who wait are told: of memory and cards without what the error holds; any other error as it is."""
    if is_out_of_memory(error):
        return NoMemoryError(
            "memory ran out", hint="Ask for less at once, or start the service with a smaller --max-batch."
        )
    if isinstance(error, torch.AcceleratorError):
        return CardFailedError(f"the card has failed: {first_line(error)}", hint="The service must be started anew.")
    return error

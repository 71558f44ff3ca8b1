"""What every verb that computes settles first: the device, and how many threads."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def start_computing(device: str, threads: int | None, say: Callable[[str], None]) -> torch.device:
    """Choose the device and the threads, and say so where others leave less than the machine has.

    Raises:
        UserError: There is no such device, or not here.
    """
    from peftlab.core.devices import choose_device
    from peftlab.core.garbage import look_as_usual
    from peftlab.core.threads import use_threads

    place = choose_device(device)
    chosen = use_threads(threads)
    if chosen.is_reduced:
        say(f"computing with {chosen.count} thread{'s' if chosen.count > 1 else ''}: {chosen.reason}")
    look_as_usual()
    return place

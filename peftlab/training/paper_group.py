"""Processes that are not there: torch's own stand-in for a group, whose exchanges give tensors and no numbers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from peftlab.core.errors import UnsupportedError


@contextlib.contextmanager
def paper_group(size: int) -> Iterator[None]:
    """Torch's default group is one of so many processes, of which this is the first.

    Raises:
        UnsupportedError: There is a real one.
    """
    import torch.distributed as dist
    from torch.testing._internal.distributed.fake_pg import FakeStore

    if dist.is_initialized():
        raise UnsupportedError(
            "the memory of a sharded base is not estimated within a run of several processes",
            hint="Call `peftlab estimate` with --processes.",
        )
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=size)
    try:
        yield
    finally:
        dist.destroy_process_group()

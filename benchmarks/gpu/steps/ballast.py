"""A process that holds memory of the card, so that a run meets a small card."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator

HOLD = """\
import sys, torch
spare = torch.cuda.mem_get_info(0)[0] - int(sys.argv[1])
held = torch.empty(max(0, spare), dtype=torch.uint8, device="cuda")
print("held", flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def fill_card(*, leave_bytes: int) -> Iterator[None]:
    """Hold all of the card's free memory but so much."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(leave_bytes)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        if process.stdout.readline().strip() != "held":
            raise RuntimeError("the card's memory could not be held")
        yield
    finally:
        process.kill()
        process.wait()

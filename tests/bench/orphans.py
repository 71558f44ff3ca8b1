"""Runs whose suite has been killed: on Linux they end with it."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from tests.patience import PATIENCE


def wait_until_none_runs_in(folder: Path) -> None:
    """Wait until no run writes below a folder; a loaded machine takes seconds to end a process."""
    if sys.platform != "linux":
        return
    deadline = time.monotonic() + PATIENCE
    while subprocess.run(["pgrep", "-f", f"output-dir {folder}"], capture_output=True).stdout:
        assert time.monotonic() < deadline, "what was killed leaves an orphan"
        time.sleep(0.1)

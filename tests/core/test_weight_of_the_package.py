"""What the package weighs: its own files, and what a bare import takes along."""

import subprocess
import sys
from pathlib import Path

import peftlab

MOST_BYTES = 6 * 2**20
MOST_SECONDS = 1.0
PROBE = "import time; at = time.process_time(); import peftlab, peftlab.cli.app; print(time.process_time() - at)"


def test_the_package_is_small():
    files = [path for path in Path(peftlab.__file__).parent.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert sum(path.stat().st_size for path in files) < MOST_BYTES


def test_the_command_line_is_imported_fast():
    def seconds() -> float:
        return float(subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True).stdout)

    assert seconds() < MOST_SECONDS or seconds() < MOST_SECONDS  # the second time from what the first has compiled

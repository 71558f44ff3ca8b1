"""Writes the tasks of ``benchmarks/suites/continual.yaml`` as tables, from the shared data sets.

    python benchmarks/continual/write_tasks.py DATA FOLDER

They are the texts with two moods of ``sequences.py``, as many rows: ``0-train.csv``, ``0-test.csv`` and so on.
"""

from __future__ import annotations

import sys
from pathlib import Path

from sequences import sequences, write_tasks

if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    write_tasks(sequences(Path(sys.argv[1]))["sentiment"], Path(sys.argv[2]), seed=0)

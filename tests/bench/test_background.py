"""A suite that a shell has started in the background ignores Ctrl-C; its runs must not inherit that."""

from __future__ import annotations

import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import peftlab
from peftlab.bench.worker import Worker
from tests.patience import PATIENCE

WAITS = f"import time; print('ready', flush=True); time.sleep({2 * PATIENCE})"


def test_its_runs_can_be_stopped(tmp_path: Path) -> None:
    recipe = peftlab.Recipe(
        name="waits",
        model={"path": "model"},
        task={"type": "text_classification"},
        data={"source": "rows.csv"},
        method={"type": "full"},
    )
    worker = Worker(tmp_path / "logs", program=(sys.executable, "-c", WAITS))
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with ThreadPoolExecutor(1) as pool:
            run = pool.submit(worker.run, recipe, tmp_path / "run")
            log, deadline = tmp_path / "logs/run.txt", time.monotonic() + PATIENCE
            while not (log.exists() and "ready" in log.read_text()):
                assert time.monotonic() < deadline
                time.sleep(0.05)
            worker.stop()
            finished = run.result(timeout=PATIENCE)
    finally:
        signal.signal(signal.SIGINT, before)
    assert finished.record.status == "cancelled"

"""Everything that only a machine with a GPU can tell, in one command.

    python benchmarks/gpu/check.py --output DIR [--minutes 8] [--wheels DIR] [--device cuda] [--tiny] [--only STEP]…

It needs Python 3.11 and torch 2.11 with CUDA, no network and no weights: models are drawn from configs, and their
texts and tokenizers come from this repository. ``--wheels`` installs what else is missing. Each step runs in a process
of its own with a bound, the most important first, and DIR/check.json holds what was found after each of them.

``--device cpu --tiny`` runs the same steps anywhere, at sizes that tell nothing but that they work.

Exit codes: 0 no step failed (some may have been left out, and the summary says why), 1 a step failed, 2 a wrong option.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import datetime
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from install import announce_peftlab, install_wheels
from outcome import NAME, Outcome, end_of, judge
from plan import STEPS, Step
from process import run_bounded

ROOT = Path(__file__).resolve().parents[2]
LAST_SECONDS = 3.0
"""Kept for writing, and for ending processes."""
TINY_SECONDS = 400.0
"""The bound of each step at tiny sizes: CPUs differ more than cards do."""
WATCH_SECONDS = 2.0
LANES = 6
"""Steps at once, at most: most of their time is the host's."""
SHARED_BYTES = 30 * 10**9
"""A card with so much memory has room for several of the small steps."""


def main(arguments: Sequence[str] | None = None, steps: Sequence[Step] = STEPS) -> int:
    """Run the check.

    Args:
        arguments: Of the command line.
        steps: What to run; others than all in tests of this script.

    Returns:
        The exit code.
    """
    options = parse(arguments, steps)
    with tempfile.TemporaryDirectory(prefix="peftlab-gpu-", ignore_cleanup_errors=True) as own:
        scratch = (options.scratch or Path(own)).resolve()
        return Check(options, scratch).run([step for step in steps if not options.only or step.name in options.only])


def parse(arguments: Sequence[str] | None, steps: Sequence[Step]) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="folder for check.json and the logs")
    parser.add_argument("--minutes", type=float, default=8.0, help="for all steps together (default 8)")
    parser.add_argument("--wheels", type=Path, help="folder with the wheels that the machine lacks")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="small sizes, which only show that everything works")
    parser.add_argument("--only", action="append", choices=[step.name for step in steps], help="a step; repeatable")
    parser.add_argument(
        "--scratch", type=Path, help="keep models and installed wheels here for a next call; by default nothing is kept"
    )
    options = parser.parse_args(arguments)
    if not options.minutes > 0:
        parser.error("--minutes must be more than 0")
    if options.scratch is not None:
        try:
            (options.scratch / "site").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            parser.error(f"--scratch: {options.scratch} cannot be used: {error.strerror}")
    if options.wheels is not None and not options.wheels.is_dir():
        parser.error(f"--wheels: there is no folder {options.wheels}")
    return options


class Check:
    """One call of the script."""

    def __init__(self, options: argparse.Namespace, scratch: Path) -> None:
        self.options, self.scratch = options, scratch
        self.started = time.monotonic()
        self.deadline = self.started + 60 * options.minutes - LAST_SECONDS
        self.stop = threading.Event()
        self.signal: int | None = None
        self.outcome = Outcome(
            options.output,
            {
                "device": options.device,
                "tiny": options.tiny,
                "commit": commit(),
                "minutes": options.minutes,
                "started_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            },
            {scratch: "SCRATCH", ROOT: "CHECKOUT"},
        )

    def run(self, steps: Sequence[Step]) -> int:
        """All steps; the exit code."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)
        site = self.scratch / "site"
        if self.options.wheels is not None:
            self._install(site)
        announce_peftlab(ROOT, site)
        for step in steps:  # of an earlier call nothing is taken for this one's
            self.outcome.set(step.name, {"title": step.title, "status": "skipped", "reason": "its turn never came"})
        self._take(steps[0])  # tells what the card is
        rest = steps[1:]
        shared, alone = self._lanes()
        self._take_all([step for step in rest if not step.alone], shared)
        self._take_all([step for step in rest if step.alone], alone)
        self.outcome.values["seconds"] = round(time.monotonic() - self.started, 1)
        self.outcome.write()
        return self._summarise(steps)

    def _lanes(self) -> tuple[int, int]:
        """How many steps run at once: of those that may share the machine, and of the others."""
        if self.options.device == "cpu":
            return (2, 2) if self.options.tiny else (1, 1)  # at tiny sizes times mean nothing
        memory = self._environment_found().get("card", {}).get("memory_bytes", 0)
        return (max(1, min(LANES, (os.cpu_count() or 1) // 2)) if memory >= SHARED_BYTES else 1), 1

    def _environment_found(self) -> dict[str, Any]:
        found: dict[str, Any] = self.outcome.values["steps"].get("environment", {}).get("results", {})
        return found

    def _take_all(self, steps: Sequence[Step], lanes: int) -> None:
        with concurrent.futures.ThreadPoolExecutor(lanes) as pool:
            futures = [pool.submit(self._take, step) for step in steps]
            while not all(future.done() for future in futures):  # a signal is only handled between such waits
                concurrent.futures.wait(futures, timeout=0.5)
        for future in futures:
            future.result()

    def _on_signal(self, number: int, _frame: object) -> None:
        self.signal = number
        self.stop.set()

    def _install(self, site: Path) -> None:
        try:
            found = install_wheels(self.options.wheels, site)
        except OSError as error:
            found = {"installed": [], "already_here": [], "refused": {"all": f"{site}: {error.strerror or error}"}}
        self.outcome.values["wheels"] = found
        self.outcome.write()
        self._say(f"wheels: {len(found['installed'])} installed, {len(found['already_here'])} were here already")
        for name, reason in found["refused"].items():
            self._say(f"wheels: {name} is left out: {reason}")

    def _take(self, step: Step) -> None:
        """Run one step, or say why not."""
        left = self.deadline - time.monotonic()
        reason = "the check was stopped" if self.stop.is_set() else self._obstacle(step, left)
        if reason is not None:
            self.outcome.set(step.name, {"title": step.title, "status": "skipped", "reason": reason})
        else:
            self._run(step, min(TINY_SECONDS if self.options.tiny else step.seconds, left))
        self._tell(step)

    def _obstacle(self, step: Step, left: float) -> str | None:
        least = 0.0 if self.options.tiny else step.least_seconds
        if left < max(least, 1.0):
            return f"out of time: {max(0.0, left):.0f} s are left, and it takes {max(least, 1.0):.0f} s at least"
        found = self._environment_found()
        if self.options.device == "cuda" and found and not found.get("has_cuda"):
            return None if step.name == "environment" else "there is no CUDA device"
        if self.options.tiny:
            return None
        if self.options.device == "cpu" and step.card_bytes:
            return "not applicable on cpu at full size; --tiny runs it small"
        memory = found.get("card", {}).get("memory_bytes")
        if memory is not None and memory < step.card_bytes:
            return f"too little memory: it needs {_size(step.card_bytes)}, and the card has {_size(memory)}"
        free = shutil.disk_usage(self.scratch).free
        if free < step.disk_bytes:
            return f"too little disk: it needs {_size(step.disk_bytes)} in {self.scratch}, which has {_size(free)}"
        return None

    def _run(self, step: Step, bound: float) -> None:
        outcome, found = self.outcome, self.scratch / "found" / f"{step.name}.json"
        found.parent.mkdir(exist_ok=True)
        found.unlink(missing_ok=True)
        settings = {
            **step.settings,
            "device": self.options.device,
            "tiny": self.options.tiny,
            "scratch": str(self.scratch),
            "found": str(found),
            "seconds": bound,
        }
        outcome.set(step.name, {"title": step.title, "status": "running", "bound_seconds": round(bound, 1)})
        log = outcome.log(step.name)
        command = step.command or (sys.executable, "-m", f"benchmarks.gpu.steps.{step.module}")
        last = [time.monotonic()]

        def watch() -> None:
            if time.monotonic() - last[0] > WATCH_SECONDS:
                last[0] = time.monotonic()
                outcome.note(step.name, **_read(found))

        ended = run_bounded(
            [*command, json.dumps(settings)],
            seconds=bound,
            log=log,
            environment=self._environment(),
            folder=ROOT,
            stop=self.stop,
            watch=watch,
        )
        values = _read(found)
        status, reason = judge(ended.code, values, timed_out=ended.timed_out, stopped=ended.stopped, bound=bound)
        values.update(status=status, reason=reason, seconds=round(ended.seconds, 1))
        if status in ("failed", "timed out"):
            values["log"] = end_of(log)
        outcome.note(step.name, **values)

    def _environment(self) -> dict[str, str]:
        own = {
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(self.scratch / "site"), os.environ.get("PYTHONPATH", "")]),
            "PYTHONUNBUFFERED": "1",
            "HF_HUB_OFFLINE": "1",
            "TMPDIR": str(self.scratch),
        }
        if self.options.device == "cpu" and self.options.tiny:  # several processes at once, and small matrices
            own["OMP_NUM_THREADS"] = os.environ.get("OMP_NUM_THREADS", "1")
        # One card: with several, the Trainer would split its batches.
        cards = os.environ.get("CUDA_VISIBLE_DEVICES") or "0"
        own["CUDA_VISIBLE_DEVICES"] = cards.partition(",")[0] if self.options.device == "cuda" else ""
        return {**os.environ, **own}

    def _tell(self, step: Step) -> None:
        values = self.outcome.values["steps"][step.name]
        told = values.get("reason") or values.get("line") or ""
        self._say(f"{step.name:<18} {values['status']:<9} {values.get('seconds', 0):6.1f} s  {told}")

    def _say(self, line: str) -> None:
        print(f"[{time.monotonic() - self.started:6.1f} s] {line}", flush=True)

    def _summarise(self, steps: Sequence[Step]) -> int:
        values = self.outcome.values["steps"]
        missing = [step.name for step in steps if values[step.name]["status"] != "passed"]
        print(f"\n{len(steps) - len(missing)} of {len(steps)} steps passed; results: {self.outcome.folder / NAME}")
        for name in missing:
            print(f"  {name}: {values[name]['status']}: {values[name]['reason']}")
        if self.outcome.problem is not None:
            print(f"  {self.outcome.problem}")
        failed = any(values[name]["status"] in ("failed", "timed out") for name in missing)
        return 1 if failed or self.outcome.problem is not None or self.signal is not None else 0


def commit() -> str | None:
    """Of this checkout, where there is a repository and git."""
    try:
        done = subprocess.run(
            ["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


def _read(path: Path) -> dict[str, Any]:
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values


def _size(count: float) -> str:
    return f"{count / 10**9:.1f} GB"


if __name__ == "__main__":
    sys.exit(main())

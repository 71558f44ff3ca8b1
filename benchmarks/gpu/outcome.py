"""What the check has found so far, on disk after every step."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

NAME = "check.json"
LOG_CHARACTERS = 3000
"""Of the end of a log, where a step did not pass."""


class Outcome:
    """``check.json`` in a folder; where that cannot be written, in another one, and it says so.

    Args:
        folder: For the file and the logs. What an earlier check of the same kind has found there is kept until the
            step is run again.
        about: What was asked for.
        words: What to write instead of the machine's own paths, which say nothing elsewhere.
    """

    def __init__(self, folder: Path, about: dict[str, Any], words: Mapping[Path, str] | None = None) -> None:
        self.asked_for, self.folder, self.words = folder, folder, words or {}
        self.problem: str | None = None
        self.values: dict[str, Any] = {"schema_version": 1, **about, "steps": {}}
        self._lock = threading.Lock()
        try:
            (folder / "logs").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            self._fall_back(error)
        else:
            self._take_up(about)
        self.write()

    def _take_up(self, about: dict[str, Any]) -> None:
        with contextlib.suppress(OSError, ValueError):
            earlier = json.loads((self.folder / NAME).read_text(encoding="utf-8"))
            if all(earlier.get(key) == about[key] for key in ("device", "tiny", "commit")):
                self.values["steps"] = earlier["steps"]

    def note(self, step: str, **values: Any) -> None:
        """Add to a step, and write."""
        with self._lock:
            self.values["steps"].setdefault(step, {}).update(values)
        self.write()

    def set(self, step: str, values: dict[str, Any]) -> None:
        """A step begins anew."""
        with self._lock:
            self.values["steps"][step] = values
        self.write()

    def log(self, step: str) -> Path | None:
        """Where a step may print to; None where there is no room for that."""
        path = self.folder / "logs" / f"{step}.txt"
        try:
            path.write_bytes(b"")
        except OSError as error:
            self._fall_back(error)
            path = self.folder / "logs" / f"{step}.txt"
        return path

    def write(self) -> None:
        """The whole file, or the one before stays."""
        with self._lock:
            text = json.dumps(self.values, indent=1) + "\n"
            for path, word in self.words.items():
                text = text.replace(str(path), word)
            try:
                _replace(self.folder / NAME, text)
            except OSError as error:
                self._fall_back(error)
                _replace(self.folder / NAME, text)

    def _fall_back(self, error: OSError) -> None:
        self.problem = f"{self.asked_for} cannot be written: {error.strerror or error}"
        self.folder = Path(tempfile.mkdtemp(prefix="peftlab-check-"))
        (self.folder / "logs").mkdir()
        print(f"{self.problem}; results go to {self.folder}", flush=True)


def judge(code: int, found: dict[str, Any], *, timed_out: bool, stopped: bool, bound: float) -> tuple[str, str | None]:
    """A step's status, and the reason where it did not pass.

    Args:
        code: Of its process.
        found: What it has written down.
        timed_out: Whether it was stopped at its bound.
        stopped: Whether the whole check was stopped.
        bound: In seconds.
    """
    if timed_out:
        return "timed out", f"stopped after {bound:.0f} s; what it had found by then is kept"
    if stopped:
        return "skipped", "the check was stopped; what it had found by then is kept"
    if code < 0:
        return "failed", f"its process was ended by {signal.Signals(-code).name}"
    if found.get("status") in ("failed", "skipped"):
        return found["status"], found.get("reason") or "it says no reason"
    if code != 0:
        return "failed", f"its process ended with exit code {code}"
    if found.get("status") != "passed":
        return "failed", "its process ended without a result"
    return "passed", None


def end_of(log: Path | None) -> str:
    """The last lines that a step has printed."""
    if log is None:
        return ""
    with contextlib.suppress(OSError):
        return log.read_text(encoding="utf-8", errors="replace")[-LOG_CHARACTERS:]
    return ""


def _replace(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise

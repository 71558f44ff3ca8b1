"""What every step has: its settings, and findings that are on disk at once."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


class SkippedError(Exception):
    """The step cannot be done here, and says why."""


@dataclass
class Findings:
    """What a step has found, in a file of its own after every change.

    Args:
        path: The file.
        settings: Of the step: device, tiny, scratch, seconds, and what is its own.

    Attributes:
        results: Plain values by name.
        problems: What did not work; a step with one has failed.
        line: Says in a line what was found.
    """

    path: Path
    settings: dict[str, Any]
    results: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    line: str = ""

    @property
    def device(self) -> str:
        """``cuda`` or ``cpu``."""
        return str(self.settings["device"])

    @property
    def is_tiny(self) -> bool:
        """Whether sizes are small, and figures tell nothing."""
        return bool(self.settings["tiny"])

    @property
    def scratch(self) -> Path:
        """For models and runs; shared by all steps."""
        return Path(self.settings["scratch"])

    def empty_folder(self) -> Path:
        """The step's own folder in scratch, which no other step uses, without what an earlier call has left there."""
        folder = self.scratch / "steps" / self.path.stem
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder

    def note(self, name: str, value: Any) -> None:
        """Keep a finding."""
        self.results[name] = value
        self.write("running")

    def fail(self, problem: str) -> None:
        """Something does not work; the step goes on with what is left."""
        print(problem, flush=True)
        self.problems.append(problem)
        self.write("running")

    def write(self, status: str, reason: str | None = None) -> None:
        """All of it."""
        values = {"status": status, "reason": reason, "line": self.line, "results": self.results}
        partial = self.path.with_suffix(".partial")
        partial.write_text(json.dumps(values), encoding="utf-8")
        partial.replace(self.path)


def run_step(step: Callable[[Findings], None]) -> None:
    """Run a step with the settings of the command line, and exit."""
    settings = json.loads(sys.argv[1])
    threading.Thread(target=_end_with_the_check, args=(os.getppid(),), daemon=True).start()
    findings = Findings(Path(settings["found"]), settings)
    try:
        step(findings)
    except SkippedError as reason:
        findings.write("skipped", str(reason))
        sys.exit(0)
    except Exception as error:  # noqa: BLE001 - whatever it is, what was found before is kept
        traceback.print_exc()
        findings.problems.append(f"{type(error).__name__}: {error}"[:1000])
    findings.write("failed" if findings.problems else "passed", "; ".join(findings.problems)[:2000] or None)
    sys.exit(1 if findings.problems else 0)


def _end_with_the_check(parent: int) -> None:
    """End this process and all that it has started once the check is gone: nobody else would give the card back."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os.killpg(0, signal.SIGKILL)

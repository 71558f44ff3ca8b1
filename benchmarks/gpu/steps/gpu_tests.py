"""The tests that are marked ``gpu``."""

from __future__ import annotations

import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path

from benchmarks.gpu.steps.step import Findings, run_step

ROOT = Path(__file__).resolve().parents[3]
MARK = r"^(@|pytestmark = .*)pytest\.mark\.gpu\b"
"""Of a test, or of all tests of a file."""
LANES = 2
"""Processes at once: most of the time is the host's."""


def main(findings: Findings) -> None:
    """Run them, and note what became of each."""
    # Only the files that hold some: to import the others would cost time, and packages that are not needed.
    files = sorted(path for path in (ROOT / "tests").rglob("test_*.py") if has_mark(path))
    folder, lanes = findings.empty_folder(), 1 if findings.is_tiny else LANES
    reports = [folder / f"{lane}.xml" for lane in range(lanes)]
    commands = [_command(files[lane::lanes], report) for lane, report in enumerate(reports)]
    running = [subprocess.Popen(command, cwd=ROOT) for command in commands]
    outcomes: dict[str, dict[str, object]] = {}
    code = 0
    for process, report in zip(running, reports, strict=True):
        code = process.wait() or code
        outcomes |= read_report(report)
        findings.note("tests", outcomes)
    counts = {kind: sum(test["outcome"] == kind for test in outcomes.values()) for kind in ("passed", "failed")}
    skipped = {test["detail"] for test in outcomes.values() if test["outcome"] == "skipped"}
    findings.line = f"{counts['passed']} of {len(outcomes)} passed"
    if findings.device == "cpu" and skipped:
        findings.line += f"; not applicable on cpu: {len(outcomes) - sum(counts.values())}"
    if code != 0 or not outcomes:
        failed = [name for name, test in outcomes.items() if test["outcome"] == "failed"]
        findings.fail(f"pytest ended with {code}; failed: {', '.join(failed) or 'none'}")
    elif findings.device == "cuda" and skipped:
        findings.fail(f"some were skipped: {'; '.join(sorted(skipped))}")


def _command(files: Sequence[Path], report: Path) -> list[str]:
    """The tests of some files; each one's end is in the log at once, and the report comes with the last.

    The machine need not have the plugin that ends tests which take too long: the step has a bound itself.
    """
    options = [
        "-o",
        "addopts=",
        "-m",
        "gpu",
        "-v",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:timeout",
        f"--junitxml={report}",
    ]
    return [sys.executable, "-m", "pytest", *options, *map(str, files)]


def has_mark(path: Path) -> bool:
    """Whether a test file holds tests for a GPU."""
    return re.search(MARK, path.read_text(encoding="utf-8"), flags=re.MULTILINE) is not None


def read_report(path: Path) -> dict[str, dict[str, object]]:
    """Each test's outcome, seconds and, where it did not pass, the first lines of why."""
    found: dict[str, dict[str, object]] = {}
    if not path.exists():
        return found
    for case in ElementTree.parse(path).getroot().iter("testcase"):  # noqa: S314 - pytest has just written it
        name = f"{case.get('classname')}.{case.get('name')}"
        bad = next((part for part in case if part.tag in ("failure", "error", "skipped")), None)
        outcome = "passed" if bad is None else "skipped" if bad.tag == "skipped" else "failed"
        found[name] = {"outcome": outcome, "seconds": float(case.get("time") or 0)}
        if bad is not None:
            found[name]["detail"] = (bad.get("message") or "")[:500]
    return found


if __name__ == "__main__":
    run_step(main)

"""Whether two commits give the same numbers on this machine, bit for bit.

    python tests/golden/compare.py OLD NEW          # two commits; NEW may be left out: the files as they are

Each commit is checked out beside this one and runs ``small_runs.py`` in a process of its own, with one thread and the
packages that are installed here.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent


def main() -> None:
    """Compare, print what differs, and exit with 1 where something does."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("old")
    parser.add_argument("new", nargs="?")
    parser.add_argument("--only", default="*", help="Runs whose name fits this pattern, such as '*/lora'.")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        old = values_of(arguments.old, folder / "old", arguments.only)
        new = values_of(arguments.new, folder / "new", arguments.only)
    differing = [name for name in old if old[name] != new[name]]
    for name in differing:
        print(f"{name}: {first_difference(old[name], new[name])}")
    print(f"{len(old) - len(differing)} of {len(old)} runs are identical")
    sys.exit(bool(differing))


def values_of(commit: str | None, folder: Path, only: str) -> dict[str, Any]:
    """The values of a commit, or of the files as they are."""
    folder.mkdir()
    checkout = REPOSITORY if commit is None else folder / "checkout"
    if commit is not None:
        _git("worktree", "add", "--detach", "--force", str(checkout), commit)
    try:
        subprocess.run(
            [sys.executable, str(HERE / "small_runs.py"), "--output", str(folder / "values.json"), "--only", only],
            env={**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
            cwd=folder,
            check=True,
        )
    finally:
        if commit is not None:
            _git("worktree", "remove", "--force", str(checkout))
    values: dict[str, Any] = json.loads((folder / "values.json").read_text())
    return values


def first_difference(old: dict[str, Any], new: dict[str, Any]) -> str:
    """Where two runs part, in words."""
    for number, (one, other) in enumerate(zip(old["steps"], new["steps"], strict=False), start=1):
        for key in one:
            if one[key] != other[key]:
                return f"{key} of step {number} was {one[key]!r} and is {other[key]!r}"
    return f"scores were {old['scores']} and are {new['scores']}"


def _git(*arguments: str) -> None:
    subprocess.run(["git", "-C", str(REPOSITORY), *arguments], check=True, capture_output=True)


if __name__ == "__main__":
    main()

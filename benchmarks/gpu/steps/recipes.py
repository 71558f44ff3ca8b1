"""Recipes as a user would write them, and the real command line that runs them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

KEPT = (
    "status", "error", "scores", "guards", "phases", "memory", "throughput", "parameters", "artifact_bytes",
    "micro_batch_size", "resumed", "steps", "seconds",
)  # fmt: skip
"""Of a record; its recipe and environment are told once, and elsewhere."""


def write_recipe(path: Path, values: Mapping[str, Any]) -> Path:
    """A recipe as YAML."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(_lines(values)), encoding="utf-8")
    return path


def _lines(values: Mapping[str, Any], indent: str = "") -> list[str]:
    lines = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            lines += [f"{indent}{key}:\n", *_lines(value, f"{indent}  ")]
        else:
            # JSON's scalars and lists are YAML's too.
            lines.append(f"{indent}{key}: {json.dumps(str(value) if isinstance(value, Path) else value)}\n")
    return lines


def command(*arguments: object) -> list[str]:
    """`peftlab` with arguments, in this Python."""
    return [sys.executable, "-m", "peftlab", *map(str, arguments)]


def run_command(recipe: Path, folder: Path, *more: object) -> list[str]:
    """`peftlab run` of a recipe."""
    return command("run", recipe, "--output-dir", folder, "--offline", *more)


def start_several(lines: Sequence[Sequence[str]]) -> subprocess.Popen[bytes]:
    """One process that runs several command lines of `peftlab`, one after the other: the libraries load once."""
    words = [line[3:] for line in lines]
    return subprocess.Popen([sys.executable, "-m", "benchmarks.gpu.steps.several", json.dumps(words)])


def short_record(folder: Path) -> dict[str, Any]:
    """What is kept of a run's record.

    Raises:
        FileNotFoundError: The run has left none.
    """
    record = json.loads((folder / "record.json").read_text(encoding="utf-8"))
    return {key: record[key] for key in KEPT if key in record}

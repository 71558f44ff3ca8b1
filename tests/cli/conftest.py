"""A recipe for the real command, and the command in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Command
from tests.patience import PATIENCE

RECIPE = """\
name: tiny
model: {{path: {model}}}
task: {{type: text_classification, max_length: 32}}
data:
  source: {data}
  validation_fraction: 0.2
method: {{type: lora, rank: 4, alpha: 8}}
training:
  epochs: 3
  batch_size: 8
  learning_rate: 5e-3
"""


@pytest.fixture
def recipe(tmp_path: Path, tiny_bert: Path, reviews: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE.format(model=tiny_bert, data=reviews))
    return path


@pytest.fixture
def few_questions(monkeypatch: pytest.MonkeyPatch) -> None:
    """The search for the largest batch asks for two sizes: how far it comes is for the tests of the search."""
    monkeypatch.setattr("peftlab.estimate.search.MOST_QUESTIONS", 2)


@pytest.fixture
def process(tmp_path: Path) -> Command:
    """Runs `peftlab` in a fresh process, which imports everything, in an empty working directory."""

    def run(*arguments: Any, timeout: float = PATIENCE, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "peftlab", *map(str, arguments)],
            cwd=tmp_path,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    return run


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))

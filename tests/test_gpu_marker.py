"""Tests for a CPU do not see a GPU, and tests for a GPU run only where they are asked for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

CONFTEST = Path(__file__).parent / "conftest.py"
TESTS = """\
import os, subprocess, sys
import pytest, torch

def test_for_a_cpu():
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""
    own = "import os; assert os.environ['CUDA_VISIBLE_DEVICES'] == ''"
    assert subprocess.run([sys.executable, "-c", own]).returncode == 0

@pytest.mark.gpu
def test_for_a_gpu():
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0"
"""
TORCH = "class cuda:\n    is_available = staticmethod(lambda: {card})\n    empty_cache = staticmethod(lambda: None)\n"
"""A torch with a card or without one, as far as the conftest asks; it is imported in no time."""
WITHOUT_PEFTLAB = "\n\n@pytest.fixture(scope='session', autouse=True)\ndef real_sizes():\n    return {}\n"


@pytest.mark.parametrize(
    ("expression", "card", "passed", "skipped", "reason"),
    [
        (None, True, 1, 1, "run these with -m gpu"),
        ("not network and not gpu", True, 1, 0, ""),
        ("gpu", True, 1, 0, ""),
        ("gpu and not network", True, 1, 0, ""),
        ("gpu or not network", True, 1, 1, "a test for a CPU"),
        ("gpu", False, 0, 1, "there is no CUDA device here"),
    ],
)
def test_what_runs(expression: str | None, card: bool, passed: int, skipped: int, reason: str, tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST.read_text() + WITHOUT_PEFTLAB)
    (tmp_path / "torch.py").write_text(TORCH.format(card=card))
    (tmp_path / "test_both.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n    gpu: g\n    network: n\n")
    command = [sys.executable, "-m", "pytest", "-ra", "-q", "-p", "no:cacheprovider", "-n", "0", str(tmp_path)]
    done = subprocess.run(
        [*command, *(["-m", expression] if expression else [])],
        cwd=tmp_path,
        env={
            **os.environ,
            "CUDA_VISIBLE_DEVICES": "0" if card else "",
            "PYTHONPATH": os.pathsep.join([str(tmp_path), str(CONFTEST.parents[1]), str(CONFTEST.parent)]),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    expected = [f"{passed} passed"] * (passed > 0) + [f"{skipped} skipped"] * (skipped > 0)
    assert all(words in done.stdout for words in expected), done.stdout + done.stderr
    assert "failed" not in done.stdout
    assert reason in done.stdout

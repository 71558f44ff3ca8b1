"""Suites whose runs spare the imports."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any

import pytest

from peftlab.bench import worker
from peftlab.training.launch import PEFTLAB
from tests.forks import Fork


@pytest.fixture
def forked_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `bench` starts from this process are forks; the suites that are killed have runs in fresh processes."""

    def popen(command: Sequence[str], *, stdout: IO[Any], stderr: int, env: Mapping[str, str], **_: object) -> Fork:
        assert tuple(command[: len(PEFTLAB)]) == PEFTLAB
        assert stderr == subprocess.STDOUT
        return Fork(command[len(PEFTLAB) :], folder=Path.cwd(), stdout=stdout, stderr=stdout, environment=env)

    names = {name: getattr(subprocess, name) for name in ("DEVNULL", "STDOUT", "TimeoutExpired")}
    monkeypatch.setattr(worker, "subprocess", SimpleNamespace(**names, Popen=popen))

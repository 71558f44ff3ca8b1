"""What is written has the modes that the user's umask gives, whoever wrote it."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from peftlab.core.files import atomic_file, atomic_folder


@pytest.fixture(params=[0o022, 0o002, 0o077])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_files_and_folders_of_every_depth(umask: int, tmp_path: Path) -> None:
    with atomic_file(tmp_path / "file") as partial:
        partial.write_text("x")
    with atomic_folder(tmp_path / "folder") as partial:
        (partial / "deep").mkdir(mode=0o700)
        descriptor, _ = tempfile.mkstemp(dir=partial / "deep")
        os.close(descriptor)
    assert mode(tmp_path / "file") == 0o666 & ~umask
    for path in [tmp_path / "folder", *(tmp_path / "folder").rglob("*")]:
        assert mode(path) == (0o777 if path.is_dir() else 0o666) & ~umask


def test_all_that_a_run_leaves(tiny_run: Callable[..., Path]) -> None:
    umask = os.umask(0)
    os.umask(umask)
    for path in [p for p in tiny_run().rglob("*") if p.name != ".lock"]:
        assert mode(path) == (0o777 if path.is_dir() else 0o666) & ~umask, path

"""What is written has the modes that the user's umask gives, whoever wrote it; what killed processes leave goes."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from safetensors import SafetensorError

from peftlab.artifact.saved_folder import find_folder
from peftlab.core.destination import check_folder
from peftlab.core.errors import UserError
from peftlab.core.files import as_os_error, atomic_file, atomic_folder, write_text
from peftlab.packs.write_pack import check_suite_folder
from peftlab.report.document import build_report


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


def test_threads_that_write_side_by_side_leave_the_umask_as_it_was(umask: int, tmp_path: Path) -> None:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(lambda number: write_text(tmp_path / f"{number}.txt", "text"), range(400)))
    finally:
        sys.setswitchinterval(before)
    assert {mode(path) for path in tmp_path.iterdir()} == {0o666 & ~umask}
    assert os.umask(umask) == umask


KILLED = """
import os, signal, sys
from pathlib import Path
from peftlab.core import files
moves = []
def move(self, *target):
    moves.append(target)
    if len(moves) == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
    return before(self, *target)
before, Path.replace = Path.replace, move
if sys.argv[1] == "check":
    Path.unlink = move
    files.try_to_write(Path("it"))
write = {"file": files.atomic_file, "folder": files.atomic_folder}[sys.argv[1]]
with write(Path("it")) as partial:
    (partial / "new" if partial.is_dir() else partial).write_text("new")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such locks")
@pytest.mark.parametrize(("kind", "move"), [("check", 1), ("file", 1), ("folder", 1), ("folder", 2)])
def test_what_a_killed_process_has_left_goes_with_the_next_one(kind: str, move: int, tmp_path: Path) -> None:
    write, place = (atomic_folder if kind == "folder" else atomic_file), tmp_path / "it"
    other = tmp_path / ".it.too.x.partial"
    other.touch()
    if kind == "folder":
        place.mkdir()
        (place / "old").touch()
    killed = subprocess.run([sys.executable, "-c", KILLED, kind, str(move)], cwd=tmp_path, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert len(list(tmp_path.glob(".it.*"))) > 1
    with write(place) as partial:
        if kind == "folder":
            assert (place / "old").exists()  # also where it had no name for a moment
        with write(place) as at_once:  # one that is at work keeps what it writes
            assert partial.exists()
            (at_once / "new" if kind == "folder" else at_once).touch()
        (partial / "newer" if kind == "folder" else partial).touch()
    assert {path.name for path in tmp_path.iterdir()} == {"it", other.name}
    assert kind != "folder" or [path.name for path in place.iterdir()] == ["newer"]


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such locks")
@pytest.mark.parametrize(
    "look", [find_folder, check_suite_folder, build_report, functools.partial(check_folder, option="--output")]
)
def test_a_folder_that_a_killed_process_had_moved_aside_is_there_for_who_looks(
    look: Callable[[Any], Any], tmp_path: Path
) -> None:
    """A report did not find its pack, and `bench` began the suite anew."""
    place = tmp_path / "it"
    place.mkdir()
    (place / "old").touch()
    subprocess.run([sys.executable, "-c", KILLED, "folder", "2"], cwd=tmp_path, check=False)
    assert not place.exists()
    with contextlib.suppress(UserError):  # of what is in it
        look([place] if look is build_report else place)
    assert [path.name for path in place.iterdir()] == ["old"]


@pytest.mark.parametrize("move", [1, 2])
def test_a_stop_while_a_folder_is_replaced_leaves_the_old_one(
    move: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "it").mkdir()
    (tmp_path / "it" / "old").touch()
    before, moves = Path.replace, 0

    def stopped(self: Path, target: Path) -> Path:
        nonlocal moves
        moves += 1
        if moves == move:
            raise KeyboardInterrupt
        return before(self, target)

    monkeypatch.setattr(Path, "replace", stopped)
    with pytest.raises(KeyboardInterrupt), atomic_folder(tmp_path / "it") as partial:
        (partial / "new").touch()
    assert [path.relative_to(tmp_path).as_posix() for path in sorted(tmp_path.rglob("*"))] == ["it", "it/old"]


def test_what_another_machine_writes_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its lock is not seen here on some file systems."""
    with monkeypatch.context() as there:
        there.setattr("platform.node", lambda: "another")
        there.setattr("peftlab.core.killed.fcntl", None)
        writing = atomic_file(tmp_path / "it")
        partial = writing.__enter__()
    write_text(tmp_path / "it", "ours")
    assert partial.exists()
    writing.__exit__(None, None, None)


def test_a_full_disk_is_told_alike_by_a_library_written_in_rust() -> None:
    told = SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
    found = as_os_error(told)
    assert isinstance(found, OSError)
    assert found.errno == errno.ENOSPC
    other = ValueError("no such file (os error 2)")
    assert as_os_error(other) is other

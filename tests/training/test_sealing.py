"""Processes load no pickle but their own: other users of a machine reach their ports."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from peftlab.core.errors import RunFailedError, UserError
from peftlab.training.sealing import KEY, SEAL_BYTES, seal, unseal
from peftlab.training.watch import Watch, packed


class _Program:
    """Touches a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.mark,)


class _Store(dict[str, bytes]):
    """Torch's store, as far as a watch that is told to end asks it."""

    def set(self, key: str, value: bytes) -> None:
        self[key] = value


def test_what_was_sealed_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    for key in ("", "a secret"):
        monkeypatch.setenv(KEY, key)
        assert unseal(seal({"a": [1, 2]})) == {"a": [1, 2]}
    error = unseal(packed(UserError("it broke", where="here"), 1))
    assert (type(error), error.message, error.where) == (UserError, "process 1: it broke", "here")


@pytest.mark.parametrize("forged", ["plain", "other key", "changed", "short", "empty"])
def test_nothing_else_is_loaded(forged: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY, "another secret")
    sealed = seal(_Program(tmp_path / "mark"))
    monkeypatch.setenv(KEY, "a secret")
    data = {
        "plain": pickle.dumps(_Program(tmp_path / "mark")),
        "other key": sealed,
        "changed": seal(1)[:SEAL_BYTES] + sealed[SEAL_BYTES:],
        "short": sealed[:10],
        "empty": b"",
    }[forged]
    with pytest.raises(RunFailedError, match="does not come from a process of this run"):
        unseal(data)
    assert not (tmp_path / "mark").exists()


def test_a_stranger_who_writes_to_the_store_runs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY, "a secret")
    watch = Watch(_Store(), 0, 2, timeout=1)
    watch._ends[1] = pickle.dumps(_Program(tmp_path / "mark"))
    with pytest.raises(RunFailedError, match="does not come from a process of this run"):
        watch._failure()
    assert not (tmp_path / "mark").exists()

"""Who works in a run's folder, as others see it."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from peftlab.core.errors import UserError
from peftlab.run.at_work import LOCK_NAME, AtWork, ask_to_stop, at_work
from peftlab.run.run_folder import RunFolder
from peftlab.training.interrupts import Interrupts


def test_a_lock_names_the_process_that_holds_it_and_a_stop_is_ctrl_c(tmp_path: Path) -> None:
    assert at_work(tmp_path) == AtWork(False)
    with Interrupts() as interrupts, RunFolder(tmp_path).locked():
        assert at_work(tmp_path) == AtWork(True, os.getpid())
        ask_to_stop(tmp_path)
        assert interrupts.requested
    assert at_work(tmp_path) == AtWork(False)
    with pytest.raises(UserError, match="no process"):
        ask_to_stop(tmp_path)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (f"{socket.gethostname()} {os.getpid()}", AtWork(True)),  # a number that was used again: nobody holds the lock
        (f"{socket.gethostname()} 99999999", AtWork(True)),
        ("another-machine 1", AtWork(False)),
        ("what is this", AtWork(False)),
        ("", AtWork(False)),
    ],
    ids=["number used again", "no such number", "another machine", "other words", "nothing"],
)
def test_words_of_a_lock_that_nobody_holds(tmp_path: Path, text: str, found: AtWork) -> None:
    (tmp_path / LOCK_NAME).write_text(text)
    assert at_work(tmp_path) == found

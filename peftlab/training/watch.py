"""Who of several processes is alive: each says so in a store, twice a second, and hears it of the others.

The store is torch.distributed's (TCP, held by the first process or by torchrun). A thread alone speaks with it, since a
store whose machine has gone would keep who asks it waiting.

An exchange between cards (NCCL) never ends where one of them is gone, and whoever reads from the own card waits for it,
deaf to signals. So there the thread ends the process, when it has not ended by itself.
"""

from __future__ import annotations

import datetime
import os
import pickle
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

from peftlab.core.errors import PeftlabError, RunFailedError, first_line
from peftlab.training.sealing import seal, unseal

BEAT = 0.5
"""Seconds between two signs of life."""
MISSED = 6
"""Beats that a process has missed when something else, such as a closed connection, says that it is gone."""
PATIENCE = 20.0
"""Seconds that a process with a card has to end by itself; launchers kill it after 30."""
FOLLOWS = b"follows"
"""The end of a process that ends because another one has."""
RESUME = "The same command with --resume goes on from the last checkpoint, with as many processes as you like."


class LostProcessError(RunFailedError):
    """Another process has failed, or is gone. Its own error is the cause, where it could still tell."""


class Watch:
    """Tells of this process, and hears of the others.

    Args:
        store: Of the whole world.
        rank: Of this process.
        size: How many there are.
        timeout: Seconds after which a silent process counts as gone.
        launcher: Process that started this one, and without which it ends; None: there is none.

    Attributes:
        give_up: Ends this process where it waits for its card too long; None: it waits for none.
    """

    def __init__(self, store: Any, rank: int, size: int, *, timeout: float, launcher: int | None = None) -> None:
        self._store, self._rank, self._others = store, rank, [other for other in range(size) if other != rank]
        self._timeout, self._launcher = timeout, launcher
        self._heard: dict[int, tuple[bytes, float]] = {}
        self._ends: dict[int, bytes] = {}
        self._contact, self._is_broken = time.monotonic(), False
        self.give_up: Callable[[BaseException], None] | None = None
        self._own_end: BaseException | None = None
        self._ended_at: float | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._speak, name="watch", daemon=True)

    @property
    def timeout(self) -> datetime.timedelta:
        """After which a silent process counts as gone."""
        return datetime.timedelta(seconds=self._timeout)

    def announce(self, problem: PeftlabError | None) -> None:
        """Say that this process is there; all do so before anybody listens.

        Args:
            problem: Why it cannot take part; None: it can.
        """
        self._store.set(f"end/{self._rank}", b"" if problem is None else packed(problem, self._rank))
        self._store.set(f"alive/{self._rank}", b"0")

    def start(self) -> None:
        """Begin to speak and to listen; all processes have announced themselves."""
        self._contact = time.monotonic()
        self._heard = dict.fromkeys(self._others, (b"", self._contact))
        self._thread.start()

    def stop(self) -> None:
        """End the thread; it may be waiting for a store that does not answer."""
        self._stopped.set()
        self._thread.join(timeout=2 * BEAT)

    def check(self) -> None:
        """See that nobody has failed.

        Raises:
            LostProcessError: Somebody has, or is silent.
        """
        if (found := self._lost()) is not None:
            raise found

    def _lost(self) -> LostProcessError | None:
        if (found := self._failure()) is not None:
            return found
        now = time.monotonic()
        if self._launcher is not None and os.getppid() != self._launcher:
            return LostProcessError("the process that started this run is gone", hint=RESUME)
        if self._is_broken or now - self._contact > self._timeout:
            return LostProcessError(_silent(0, self._timeout, is_gone=self._is_broken), hint=RESUME)
        for other, (_, at) in self._heard.items():
            if now - at > self._timeout:
                return LostProcessError(_silent(other, self._timeout, is_gone=False), hint=RESUME)
        return None

    def loss(self, error: BaseException) -> LostProcessError:
        """What has happened, when a connection has failed: the others get a moment to tell.

        Args:
            error: Of the library.
        """
        began = time.monotonic()
        patience = min(self._timeout, 2 * MISSED * BEAT)
        while time.monotonic() - began < patience:
            if (found := self._failure()) is not None:
                return found
            now = time.monotonic()
            if self._is_broken:
                return LostProcessError(_silent(0, 0, is_gone=True), hint=RESUME)
            gone = [other for other, (_, at) in self._heard.items() if now - at > MISSED * BEAT]
            if gone and now - self._contact < MISSED * BEAT:
                return LostProcessError(_silent(gone[0], 0, is_gone=True), hint=RESUME)
            time.sleep(BEAT / 5)
        return LostProcessError(f"the processes of this run have lost each other: {_in_a_line(error)}", hint=RESUME)

    def say_ended(self, error: BaseException | None) -> None:
        """Tell the others that this process ends.

        Args:
            error: Why; None: because another one has.
        """
        self._own_end = error
        if not self._is_broken:
            try:
                self._store.set(f"end/{self._rank}", FOLLOWS if error is None else packed(error, self._rank))
            except RuntimeError:
                self._is_broken = True  # there is nobody left to be told

    def _failure(self) -> LostProcessError | None:
        """The error of the first process that has one of its own."""
        for other, end in sorted(self._ends.items()):
            if end not in (b"", FOLLOWS):
                cause = unseal(end)
                found = LostProcessError(f"process {other} has failed: {cause}")
                found.__cause__ = cause
                return found
        return None

    def _speak(self) -> None:
        store = self._store.clone()
        ends = [f"end/{other}" for other in self._others]
        signs = [f"alive/{other}" for other in self._others]
        beat = 0
        while not self._stopped.wait(BEAT):
            beat += 1
            try:
                if not self._is_broken:
                    store.set(f"alive/{self._rank}", str(beat))
                    self._hear(store.multi_get([*ends, *signs]))
            except RuntimeError:
                self._is_broken = True
            self._end_where_late()

    def _hear(self, answers: list[bytes]) -> None:
        """Take in the ends of all others, and then their signs of life."""
        now = time.monotonic()
        self._contact = now
        for other, end, sign in zip(self._others, answers, answers[len(self._others) :], strict=False):
            self._ends[other] = end
            if sign != self._heard[other][0] or end:
                self._heard[other] = (sign, now)

    def _end_where_late(self) -> None:
        """End this process where it should have ended by itself, and waits for its card."""
        if self.give_up is None:
            return
        try:
            error = self._own_end or self._lost()
        except RunFailedError as forged:
            error = forged
        if error is None:
            self._ended_at = None  # who was silent speaks again
            return
        if self._ended_at is None:
            self._ended_at = time.monotonic()
        if time.monotonic() - self._ended_at > PATIENCE and not self._stopped.is_set():
            self.give_up(error)


def _silent(rank: int, timeout: float, *, is_gone: bool) -> str:
    if is_gone:
        return f"process {rank} is gone: it was killed, or its machine does not answer"
    return f"process {rank} has given no sign of life for {timeout:g} s"


def _in_a_line(error: BaseException) -> str:
    """The first line; NCCL says there that something has failed, and what it was at the end."""
    _, _, last = str(error).partition("Last error:")
    return ": ".join(filter(None, [first_line(error), *last.strip().splitlines()[:1]]))


def packed(error: BaseException, rank: int) -> bytes:
    """An error for other processes: as it is where it can be, with the place where it was raised."""
    if isinstance(error, PeftlabError):
        error.message = f"process {rank}: {error.message}" if rank else error.message
    elif rank:
        error.add_note(f"in process {rank}:\n" + "".join(traceback.format_tb(error.__traceback__)))
    return seal(error if _comes_back(error) else RunFailedError(f"process {rank}: {_in_words(error)}"))


def portable(error: RunFailedError) -> RunFailedError:
    """An error as it is where it can travel to another process, else its words."""
    return error if _comes_back(error) else RunFailedError(_in_words(error))


def _comes_back(error: BaseException) -> bool:
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - what was packed here
    except Exception:  # noqa: BLE001 - whatever a stranger's class does
        return False
    return True


def _in_words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"

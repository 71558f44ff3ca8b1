"""Work that does not end is given up, in the main thread and in others; nothing of it goes on."""

from __future__ import annotations

import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from peftlab.core.time_limit import within
from tests.patience import PATIENCE


def endless() -> None:
    while True:
        try:
            while True:
                pass
        except Exception:  # noqa: BLE001, S110 - as programs have it that let nothing stop them
            pass


def one_long_sum() -> int:
    """No step of Python's ends within it."""
    return 9 ** (9**9)


@pytest.mark.parametrize("work", [endless, one_long_sum])
def test_what_does_not_end_in_the_main_thread_is_ended(work) -> None:
    before = signal.getsignal(signal.SIGVTALRM)
    with pytest.raises(TimeoutError, match=r"not done within 0\.05 seconds"):
        within(0.05, work)
    assert signal.getsignal(signal.SIGVTALRM) == before
    assert signal.getitimer(signal.ITIMER_VIRTUAL) == (0, 0)


def test_what_does_not_end_in_another_thread_is_given_up_and_stops() -> None:
    with ThreadPoolExecutor(1) as pool, pytest.raises(TimeoutError):
        pool.submit(within, 0.05, endless).result()
    until = time.monotonic() + PATIENCE
    while any(thread.name == "within a time" for thread in threading.enumerate()):
        assert time.monotonic() < until
        time.sleep(0.01)


def test_what_ends_gives_its_value_or_raises_its_own_error() -> None:
    with ThreadPoolExecutor(1) as pool:
        for ask in (within, lambda *given: pool.submit(within, *given).result()):
            assert ask(PATIENCE, lambda: "done") == "done"
            with pytest.raises(ZeroDivisionError):
                ask(PATIENCE, lambda: 1 / 0)

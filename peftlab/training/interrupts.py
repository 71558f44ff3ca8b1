"""Ctrl-C and SIGTERM: asked for once, they wait for a step to end, so that the run can be resumed from there."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self

from peftlab.core.errors import RunFailedError

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class CancelledError(RunFailedError):
    """The user stopped the run."""


class Interrupts:
    """While entered: the first signal is noted, a second one acts as usual. Outside the main thread it does nothing.

    Args:
        agree: Whether one of all processes has got a signal, from whether this one has.
    """

    def __init__(self, agree: Callable[[bool], bool] = bool) -> None:
        self.requested = False
        self._agree = agree
        self._previous: dict[signal.Signals, Any] = {}

    def are_requested(self) -> bool:
        """Whether a signal has come, in whichever process."""
        return self._agree(self.requested)

    def check(self) -> None:
        """Stop here if the user asked for it.

        Raises:
            CancelledError: A signal has come.
        """
        if self.are_requested():
            raise CancelledError("stopped by the user")

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self.requested = True
        signal.signal(number, self._previous.get(signal.Signals(number), signal.SIG_DFL))

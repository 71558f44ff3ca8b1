"""Callbacks: what a program wants to hear of a run, and how it ends one early."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from peftlab.core.errors import ConfigError, RunFailedError
from peftlab.core.record import RunRecord

EVENTS = ("on_step", "on_evaluation", "on_end")


class StopTraining(Exception):  # noqa: N818 - a wish, as StopIteration is
    """Raised in ``on_step`` or ``on_evaluation``: training ends here, as if the patience of early stopping were out.

    The validation split is evaluated once more if it was not after this step, and the best state is kept.
    """


class CallbackError(RunFailedError):
    """A callback raised something. The run ends as ``failed``; it can be resumed after the step that it had done."""


class Callback:
    """A base to derive from; every method may be left out.

    What a callback raises, other than :class:`StopTraining`, ends the run: a checkpoint is written, the record says
    ``failed`` and which callback it was, and the traceback is in the run's folder.
    """

    def on_step(self, step: int, loss: float) -> None:
        """After a step that is logged: the first, the last, and every ``training.log_every_steps``.

        Args:
            step: From 1.
            loss: The mean over the step's examples.
        """

    def on_evaluation(self, step: int, scores: Mapping[str, float]) -> None:
        """After the validation split was evaluated while training.

        Args:
            step: From 1.
            scores: The task's metrics, and the mean ``loss``.
        """

    def on_end(self, record: RunRecord) -> None:
        """When everything is on disk, however the run has ended.

        Args:
            record: It says how, in ``status``.
        """


class CallbackList:
    """The callbacks of a run; what they raise is kept until the loop asks.

    Args:
        callbacks: Objects with one or more of the methods of :class:`Callback`.

    Attributes:
        stopped_by: The name of the callback that wants training to end; None: none does.
        error: Of a callback; None: none has failed.

    Raises:
        ConfigError: One has none of these methods, or is a class.
    """

    def __init__(self, callbacks: Sequence[Callback] = ()) -> None:
        if not isinstance(callbacks, Sequence) or isinstance(callbacks, str):
            raise ConfigError(f"a list is needed, not {callbacks!r}", where="callbacks", hint="Write `callbacks=[…]`.")
        for position, callback in enumerate(callbacks):
            where = f"callbacks.{position}"
            if isinstance(callback, type):
                raise ConfigError("this is a class", where=where, hint=f"Give an object: {callback.__name__}().")
            if not any(callable(getattr(callback, event, None)) for event in EVENTS):
                raise ConfigError(
                    f"a callback has one of the methods {', '.join(EVENTS)}, and {callback!r} has none",
                    where=where,
                    hint="Derive it from peftlab.Callback.",
                )
        self._callbacks = tuple(callbacks)
        self.stopped_by: str | None = None
        self.error: CallbackError | None = None

    def agree(self, first: Callable[[Callable[[], Any]], Any]) -> None:
        """Take up what the callbacks of the first process want; it alone has any.

        Args:
            first: Calls a function in the first process, and gives its result to all.
        """
        self.stopped_by, error = first(lambda: (self.stopped_by, self.error))
        self.error = self.error or error  # the first one's own still knows what it was raised from

    def on_step(self, step: int, loss: float) -> None:
        """Tell all of a step."""
        self._tell("on_step", step, loss)

    def on_evaluation(self, step: int, scores: Mapping[str, float]) -> None:
        """Tell all of an evaluation."""
        self._tell("on_evaluation", step, dict(scores))

    def on_end(self, record: RunRecord) -> None:
        """Tell all that the run has ended.

        Raises:
            CallbackError: One has failed; all have been told.
        """
        self.error = None
        self._tell("on_end", record)
        if self.error is not None:
            raise self.error

    def _tell(self, event: str, *values: Any) -> None:
        for callback in self._callbacks:
            method = getattr(callback, event, None)
            if method is None:
                continue
            try:
                method(*values)
            except StopTraining:
                self.stopped_by = self.stopped_by or type(callback).__name__
            except Exception as error:  # noqa: BLE001 - a stranger's code may raise anything; it ends the run
                self.error = self.error or _failure(callback, event, error)


def _failure(callback: Callback, event: str, error: Exception) -> CallbackError:
    found = CallbackError(f"{event} of the callback {type(callback).__name__} raised {type(error).__name__}: {error}")
    found.__cause__ = error
    return found

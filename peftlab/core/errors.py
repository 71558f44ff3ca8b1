"""Every error that a user can meet: what is wrong, where, and how to mend it.

The command line prints these without a traceback. Whatever else is raised is a defect of peftlab.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

FEW = 13
"""So many names fit on a line or two."""


class PeftlabError(Exception):
    """An error with a place and a way out.

    Args:
        message: What is wrong, in one sentence.
        where: The place, such as ``recipe.yaml:14: method.rnak`` or ``tweets.csv, row 17``.
        hint: What to do about it.
    """

    exit_code = 1

    def __init__(self, message: str, *, where: str | None = None, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.where = where
        self.hint = hint

    def __str__(self) -> str:
        text = f"{self.where}: {self.message}" if self.where else self.message
        return f"{text}\n  {self.hint}" if self.hint else text


class UserError(PeftlabError):
    """The input is wrong: a recipe, an option, a path. Exit code 2."""

    exit_code = 2


class ConfigError(UserError):
    """A recipe or suite says something that cannot be."""


class SourceError(UserError):
    """A model or data source cannot be reached, or is not what its address promises."""


class DataError(UserError):
    """A table was read, but its content cannot be used for the task."""


class UnsupportedError(UserError):
    """A combination that has no meaning or no implementation, such as a method that a model cannot take."""


class RunFailedError(PeftlabError):
    """The run itself failed: it diverged, ran out of memory, or a guard found it broken. Exit code 1."""


class PluginError(RunFailedError):
    """What a class of a registry gives is not what its contract asks for: its author has to mend it. Exit code 1."""


def closest(word: str, candidates: Iterable[str]) -> str | None:
    """The candidate that a misspelt word may stand for; None where none is close."""
    close = difflib.get_close_matches(word, sorted(set(candidates)), n=3, cutoff=0.6)
    # Swapped letters are the commonest slip, and difflib takes several words for equally close then.
    return next((candidate for candidate in close if sorted(candidate) == sorted(word)), close[0] if close else None)


def did_you_mean(word: str, candidates: Iterable[str]) -> str | None:
    """The hint for a misspelt word: the closest candidate, or the first dozen of them where none is close.

    Args:
        word: What the user wrote.
        candidates: What could have been meant.

    Returns:
        A sentence, or None where there are no candidates.
    """
    known = sorted(set(candidates))
    near = closest(word, known)
    if near is not None:
        return f"Did you mean `{near}`?"
    if not known:
        return None
    if len(known) > FEW:
        return f"Known: {', '.join(known[:FEW])}, … ({len(known)} in all)."
    return f"Known: {', '.join(known)}."


def first_line(error: BaseException) -> str:
    """The first line of what an error says that is not blank; the error's kind where it says nothing."""
    lines = (line.strip() for line in str(error).splitlines())
    return next(filter(None, lines), type(error).__name__)

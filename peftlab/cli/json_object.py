"""The one object that ``--json`` prints: a result, an error, or a long list that is written as its items come.

While a verb makes it, standard output is the object's alone: what libraries and plugins print goes to standard error.
An error that comes while the list is written becomes the object's last member, so that what was printed stays JSON.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TextIO

_begun: list[str] = []
"""What would end the object that is being written; empty: none is."""
_kept: list[TextIO] = []
"""Standard output, while it is the object's alone."""


@contextlib.contextmanager
def alone_on_output() -> Iterator[None]:
    """As long as the context lasts, only the functions of this module write to standard output."""
    _kept.append(sys.stdout)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        _kept.pop()


def print_result(text: str) -> None:
    """Print what a verb has made, as an object or as lines."""
    _print(text, end="\n")


def _print(text: str, *, end: str) -> None:
    print(text, end=end, file=_kept[-1] if _kept else sys.stdout)


def print_with_items(head: Mapping[str, Any], name: str, items: Iterable[Any]) -> None:
    """Print an object whose last member is a list, each item as soon as it is there.

    Args:
        head: The members before it; one at least.
        name: Of the list.
        items: What it holds. Where they break off, the error is printed by :func:`print_error`, after those before.
    """
    _print(json.dumps(head)[:-1] + f", {json.dumps(name)}: [", end="")
    _begun.append("\n]")
    for position, item in enumerate(items):
        _print(("," if position else "") + "\n" + json.dumps(item, ensure_ascii=False), end="")
    _begun.clear()
    print_result("\n]}")


def print_error(message: str, exit_code: int) -> None:
    """Print an error as an object, or as the end of the object that was begun."""
    error = json.dumps({"error": {"message": message, "exit_code": exit_code}})
    print_result(f"{_begun.pop()}, {error[1:]}" if _begun else error)

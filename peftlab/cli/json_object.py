"""The one object that ``--json`` prints: an error, or a long list that is written as its items come.

An error that comes while the list is written becomes the object's last member, so that what was printed stays JSON.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

_begun: list[str] = []
"""What would end the object that is being written; empty: none is."""


def print_with_items(head: Mapping[str, Any], name: str, items: Iterable[Any]) -> None:
    """Print an object whose last member is a list, each item as soon as it is there.

    Args:
        head: The members before it; one at least.
        name: Of the list.
        items: What it holds. Where they break off, the error is printed by :func:`print_error`, after those before.
    """
    print(json.dumps(head)[:-1] + f", {json.dumps(name)}: [", end="")
    _begun.append("\n]")
    for position, item in enumerate(items):
        print(("," if position else "") + "\n" + json.dumps(item, ensure_ascii=False), end="")
    _begun.clear()
    print("\n]}")


def print_error(message: str, exit_code: int) -> None:
    """Print an error as an object, or as the end of the object that was begun."""
    error = json.dumps({"error": {"message": message, "exit_code": exit_code}})
    print(f"{_begun.pop()}, {error[1:]}" if _begun else error)

"""Dialogues in YAML, as ChatterBot's corpus has them (https://github.com/gunthercox/chatterbot-corpus).

The file holds ``conversations``: lists of what is said in turn. Each list is a row. What is said last and has no answer
is left out; a list without any answer is no row.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from peftlab.core.errors import DataError, first_line

CONVERSATIONS = "conversations"


def parse_conversations(text: str, *, where: str) -> list[list[str]]:
    """The conversations of a file, each of an even number of texts.

    Raises:
        DataError: The file is no YAML, or holds no conversations.
    """
    try:
        document = YAML(typ="safe", pure=True).load(text)
    except MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise DataError(f"not YAML: {error.problem or error.context}", where=f"{where}{line}") from None
    except (YAMLError, ValueError, RecursionError) as error:
        raise DataError(f"not YAML: {first_line(error)}", where=where) from None
    found = document.get(CONVERSATIONS) if isinstance(document, Mapping) else None
    if not isinstance(found, list) or not any(isinstance(item, list) for item in found):
        raise DataError(
            f"there is no list of lists under the key `{CONVERSATIONS}`", where=where, hint="Is this a dialogue file?"
        )
    spoken = [item if isinstance(item, list) else [item] for item in found]  # a text by itself has no answer
    rows = [_texts(item, where=f"{where}, conversation {at}") for at, item in enumerate(spoken, start=1)]
    return [row for row in rows if row]


def _texts(items: list[Any], *, where: str) -> list[str]:
    """YAML takes `42` for a number, an empty item for null, and `Note: yes` for a mapping."""
    texts = []
    for item in items[: len(items) // 2 * 2]:
        parts = next(iter(item.items())) if isinstance(item, Mapping) and len(item) == 1 else (item,)
        if any(isinstance(part, list | Mapping | set) for part in parts):
            raise DataError("what is said is no text", where=where, hint="Put it into quotes.")
        texts.append(": ".join("" if part is None else str(part).strip() for part in parts))
    return texts

"""Rows of many layouts as conversations: a context, and one or more responses that may end it.

Two plain columns, Alpaca's three (https://github.com/tatsu-lab/stanford_alpaca), messages with ``role`` and
``content``, ShareGPT's with ``from`` and ``value``. Every row is checked here, so that nothing is trained on garbage.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from peftlab.errors import DataError
from peftlab.interfaces import Split

CONTEXT, RESPONSES = "context", "responses"
"""The columns that every layout ends in: the context as JSON, a list of ``{"role", "content"}``; a list of texts."""

Message = dict[str, str]

ROLES = {
    "system": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
}


def conversations_of_columns(split: Split, *, prompt: str, response: str, extra: str | None) -> Split:
    """Conversations of one turn, from a column of prompts and one of responses.

    Args:
        split: The source's rows.
        prompt: Column of the prompt, or instruction.
        response: Column of the response.
        extra: Column of what the instruction is about, where there is one; it may be empty.

    Raises:
        DataError: Naming the row.
    """
    pairs = []
    for row in range(len(split)):
        question = open_question(split, row, prompt=prompt, extra=extra)
        pairs.append((question, _text(split, row, response)))
    return _grouped(split, pairs)


def conversations_of_messages(split: Split, column: str) -> Split:
    """Conversations from lists of messages; the last one is the response.

    Raises:
        DataError: Naming the row.
    """
    pairs = []
    for row in range(len(split)):
        messages = _messages(split.columns[column][row], split.where(row))
        pairs.append((messages[:-1], messages[-1]["content"]))
    return _grouped(split, pairs)


def open_conversation(value: Any, where: str) -> list[Message]:
    """The messages before the next response; a response that is there already, as in training data, is left out.

    Args:
        value: A list of messages in any layout, or its JSON.
        where: The row, for messages.

    Raises:
        DataError: It is no conversation, or has nothing to respond to.
    """
    messages = _parsed_messages(value, where)
    if messages[-1]["role"] == "assistant":
        messages = messages[:-1]
    if not messages or messages[-1]["role"] != "user":
        raise DataError("the conversation holds nothing of the user's to respond to", where=where)
    _check_order([*messages, {"role": "assistant", "content": "."}], where)
    return messages


def open_question(split: Split, row: int, *, prompt: str, extra: str | None) -> list[Message]:
    """A row's prompt, with what it is about, as the messages before the response.

    Raises:
        DataError: The prompt is empty.
    """
    return [{"role": "user", "content": _question(split, row, prompt, extra)}]


def read_context(text: str) -> list[Message]:
    """The messages of a context."""
    messages: list[Message] = json.loads(text)
    return messages


def _grouped(split: Split, pairs: Sequence[tuple[list[Message], str]]) -> Split:
    """Rows with the same context become one row with several responses: they are its references, and never parted."""
    rows: dict[str, int] = {}
    responses: dict[str, list[str]] = {}
    for row, (context, response) in enumerate(pairs):
        key = json.dumps(context, ensure_ascii=False)
        rows.setdefault(key, row)
        known = responses.setdefault(key, [])
        if response not in known:
            known.append(response)
    index = [split.index[row] for row in rows.values()]
    return Split(split.name, index, {CONTEXT: list(rows), RESPONSES: list(responses.values())}, split.source)


def _question(split: Split, row: int, prompt: str, extra: str | None) -> str:
    text = _text(split, row, prompt)
    about = split.columns[extra][row] if extra is not None else None
    return f"{text}\n\n{str(about).strip()}" if about is not None and str(about).strip() else text


def _text(split: Split, row: int, column: str) -> str:
    value = split.columns[column][row]
    if not isinstance(value, str):
        found = "is missing" if value is None else f"holds {value!r:.60}, which is no text"
        raise DataError(f"the column `{column}` {found}", where=split.where(row))
    if not value.strip():
        raise DataError(f"the column `{column}` is empty", where=split.where(row), hint="Remove the row, or fill it.")
    return value


def _messages(value: Any, where: str) -> list[Message]:
    messages = _parsed_messages(value, where)
    _check_order(messages, where)
    return messages


def _parsed_messages(value: Any, where: str) -> list[Message]:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            raise DataError(f"a list of messages is needed, not the text {value!r:.60}", where=where) from None
    if isinstance(value, Sequence) and value and all(isinstance(item, str) for item in value):
        value = [{"role": ("user", "assistant")[place % 2], "content": text} for place, text in enumerate(value)]
    if not isinstance(value, Sequence) or not all(isinstance(item, Mapping) for item in value) or not value:
        raise DataError(f"a list of messages is needed, not {value!r:.60}", where=where)
    return [_message(item, where) for item in value]


def _message(item: Mapping[str, Any], where: str) -> Message:
    role, content = item.get("role", item.get("from")), item.get("content", item.get("value"))
    if role not in ROLES:
        raise DataError(
            f"a message has the role {role!r}",
            where=where,
            hint=f"Roles are {', '.join(dict.fromkeys(ROLES.values()))}.",
        )
    if not isinstance(content, str) or not content.strip():
        raise DataError(f"a message of the {ROLES[role]} is empty", where=where, hint="Remove the row, or fill it.")
    return {"role": ROLES[role], "content": content}


def _check_order(messages: Sequence[Message], where: str) -> None:
    """At most one system message, first; then user and assistant in turn; the assistant has the last word."""
    turns = messages[1:] if messages[0]["role"] == "system" else messages
    for number, message in enumerate(turns):
        expected = ("user", "assistant")[number % 2]
        if message["role"] != expected:
            raise DataError(
                f"message {number + 1 + len(messages) - len(turns)} is the {message['role']}'s, where the {expected}'s "
                "turn is",
                where=where,
                hint="After an optional system message, user and assistant take turns.",
            )
    if not turns or turns[-1]["role"] != "assistant":
        raise DataError("the conversation does not end with the assistant's response", where=where)

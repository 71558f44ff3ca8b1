"""Rows of preferences in their usual layouts: texts, or chats, with the prompt apart or within the sides.

A row becomes a context, as in the other tasks of chats, and one message for each response, as JSON.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from peftlab.core.errors import DataError
from peftlab.core.splits import Split
from peftlab.tasks._numbers import number_in
from peftlab.tasks.language.conversations import (
    CONTEXT,
    RESULTS,
    ROLES,
    WEIGHT,
    Conversation,
    Message,
    parsed_messages,
)

CHOSEN, REJECTED, RESPONSE, LABEL, MARGIN = "chosen", "rejected", "response", "label", "margin"
"""The columns that rows end in, beside the context."""
TRUTHS: Mapping[Any, bool] = {True: True, False: False, "true": True, "false": False, "1": True, "0": False}
"""How tables write whether a response is desirable."""
LIST_OF_MESSAGES = re.compile(r"""\s*\[\s*\{\s*(["'])(role|from|content|value)\1\s*:""")
A_ROLE = re.compile(rf"""(["'])(role|from)\1\s*:\s*(["'])({"|".join(ROLES)})\3""")
"""How a chat looks that is written as text, by JSON or by Python."""


def arrange_pairs(split: Split, *, prompt: str, chosen: str, rejected: str, margin: str | None = None) -> Split:
    """A context, a chosen and a rejected response for each row, and by how much it is better, where a column says so.

    Raises:
        DataError: A side is missing or both are the same, a prompt is missing or differs from the sides' own, or a
            margin is no number of 0 or more.
    """
    contexts, better, worse = list[str](), list[str](), list[str]()
    for row in range(len(split)):
        where = split.where(row)
        sides = {column: _side(split, row, column) for column in (chosen, rejected)}
        contexts.append(_context(split, row, prompt, sides))
        (_, good), (_, bad) = sides.values()
        if _said(good) == _said(bad):
            raise DataError(f"`{chosen}` and `{rejected}` are the same", where=where, hint="Remove the row.")
        better.append(_as_json(good))
        worse.append(_as_json(bad))
    columns: dict[str, list[Any]] = {CONTEXT: contexts, CHOSEN: better, REJECTED: worse}
    if margin is not None:
        columns[MARGIN] = [number_in(split, row, margin, "margin", may_be_negative=False) for row in range(len(split))]
    return Split(split.name, split.index, columns, split.source, split.notes)


def arrange_inputs(split: Split, *, prompt: str, response: str) -> Split:
    """A context and a response for each row of which nothing else is known.

    Raises:
        DataError: A response or its prompt is missing.
    """
    sides = [_side(split, row, response) for row in range(len(split))]
    contexts = [_context(split, row, prompt, {response: side}) for row, side in enumerate(sides)]
    return Split(
        split.name, split.index, {CONTEXT: contexts, RESPONSE: [_as_json(side[1]) for side in sides]}, split.source
    )


def arrange_responses(split: Split, *, prompt: str, response: str, label: str) -> Split:
    """A context, a response and whether it is desirable for each row.

    Raises:
        DataError: A response, its prompt or its label is missing.
    """
    contexts, responses, labels = list[str](), list[str](), list[bool]()
    for row in range(len(split)):
        side = _side(split, row, response)
        contexts.append(_context(split, row, prompt, {response: side}))
        responses.append(_as_json(side[1]))
        labels.append(_truth(split, row, label))
    return Split(
        split.name, split.index, {CONTEXT: contexts, RESPONSE: responses, LABEL: labels}, split.source, split.notes
    )


def read_prompt(value: Any, column: str, where: str) -> list[Message]:
    """The messages of a prompt: a text, or a chat that ends with the user's turn.

    Raises:
        DataError: It is empty, or ends with a response.
    """
    if isinstance(value, str):
        if not value.strip():
            raise DataError(f"the column `{column}` is empty", where=where, hint="Remove the row, or fill it.")
        return [{"role": "user", "content": value}]
    messages = _messages(value, where)
    if messages[-1]["role"] not in ("user", *RESULTS):
        raise DataError(
            f"the chat in `{column}` ends with the {messages[-1]['role']}'s message, which nobody is to respond to",
            where=where,
            hint="A prompt ends with the user's turn.",
        )
    return messages


def _as_text(value: str, column: str, where: str) -> str:
    """The text of a column, which is no chat.

    Raises:
        DataError: It is empty, or a chat as a table of texts such as a CSV file holds it: quotation marks and all would
            be learned.
    """
    if not value.strip():
        raise DataError(f"the column `{column}` is empty", where=where, hint="Remove the row, or fill it.")
    if LIST_OF_MESSAGES.match(value) and A_ROLE.search(value):
        raise DataError(
            f"the column `{column}` holds a chat that is written as text: {value!r:.60}",
            where=where,
            hint="Give the rows as JSON Lines or Parquet, in which a chat is a list of messages.",
        )
    return value


def with_response(context: Conversation, message: str) -> Conversation:
    """A context with a response of a row behind it."""
    fields = json.loads(message)
    return context.with_response(fields.pop("content"), fields)


def _side(split: Split, row: int, column: str) -> tuple[list[Message], Message]:
    """What stands before a response in its own column, if anything does; and the response."""
    value, where = split.columns[column][row], split.where(row)
    if value is None:
        raise DataError(f"the column `{column}` is missing", where=where, hint="Both sides of a pair are needed.")
    if isinstance(value, str):
        return [], {"content": _as_text(value, column, where)}
    messages = _messages(value, where)
    if messages[-1]["role"] != "assistant":
        raise DataError(
            f"the chat in `{column}` ends with the {messages[-1]['role']}'s turn, not with a response",
            where=where,
            hint="The last message must be the assistant's.",
        )
    return messages[:-1], {key: value for key, value in messages[-1].items() if key != "role"}


def _messages(value: Any, where: str) -> list[Message]:
    """Messages without weights: of a preference the last response alone is compared."""
    return [{key: each for key, each in message.items() if key != WEIGHT} for message in parsed_messages(value, where)]


def _context(split: Split, row: int, prompt: str, sides: Mapping[str, tuple[Sequence[Message], Message]]) -> str:
    """The messages before the responses, as JSON: the prompt's, or those that the sides hold themselves."""
    where, value = split.where(row), split.columns[prompt][row] if prompt in split.columns else None
    own = {column: list(before) for column, (before, _) in sides.items() if before}
    if isinstance(value, str):
        value = _as_text(value, prompt, where)
    given = None if value is None else read_prompt(value, prompt, where)
    if not own:
        if given is None:
            raise DataError(f"the column `{prompt}` is missing", where=where, hint="A prompt is needed.")
        return json.dumps(given, ensure_ascii=False)
    column, context = next(iter(own.items()))
    differing = [other for other, messages in own.items() if messages != context]
    if differing:
        raise DataError(
            f"the prompts of `{column}` and `{differing[0]}` differ",
            where=where,
            hint="Two responses can be compared only where they answer the same.",
        )
    if given is None and len(own) < len(sides):
        bare = next(other for other in sides if other not in own)
        raise DataError(f"`{bare}` has no prompt, and `{column}` has one", where=where)
    if given is not None and not _is_same(given, context):
        raise DataError(
            f"the prompt in `{prompt}` differs from that of the chat in `{column}`",
            where=where,
            hint="Leave one of them out, or mend the row.",
        )
    return json.dumps(read_prompt(context, column, where), ensure_ascii=False)


def _is_same(given: Sequence[Message], context: Sequence[Message]) -> bool:
    """Whether a prompt is a chat's; many tables hold only one of the user's messages as a text beside the chat."""
    return list(given) == list(context) or (len(given) == 1 and given[0] in context)


def _truth(split: Split, row: int, column: str) -> bool:
    value = split.columns[column][row]
    key = value.strip().lower() if isinstance(value, str) else value
    if not isinstance(key, bool | int | float | str) or key not in TRUTHS:
        found = "is missing" if value is None else f"holds {value!r:.40}"
        raise DataError(
            f"the column `{column}` {found}",
            where=split.where(row),
            hint="It says whether the response is desirable: true or false.",
        )
    return TRUTHS[key]


def _said(message: Message) -> tuple[str, str]:
    rest = {key: value for key, value in message.items() if key != "content"}
    return str(message["content"]).strip(), json.dumps(rest, sort_keys=True)


def _as_json(message: Message) -> str:
    return json.dumps(message, ensure_ascii=False)

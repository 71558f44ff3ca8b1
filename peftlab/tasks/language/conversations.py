"""Rows of many layouts as conversations: a context, and one or more responses that may end it.

Two plain columns, Alpaca's three (https://github.com/tatsu-lab/stanford_alpaca), messages with ``role`` and
``content``, ShareGPT's with ``from`` and ``value``. Every row is checked here, so that nothing is trained on garbage.
What a message holds beside role and content goes on to the chat template, as in transformers; ``weight`` is for the
loss.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from peftlab.core.errors import DataError
from peftlab.core.splits import Split

CONTEXT, RESPONSES = "context", "responses"
"""The columns that every layout ends in: the context as JSON, a list of messages (with tools: an object of messages and
tools); a list of texts."""
RESPONSE_FIELDS = "response_fields"
"""A column of chats alone: what each response holds beside its content, such as ``tool_calls``."""

Message = dict[str, Any]
"""``role``, ``content``, and what else the chat template may know, such as ``tool_calls``."""

ROLES = {
    "system": "system",
    "developer": "developer",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
    "tool": "tool",
    "observation": "tool",
    "function": "function",
    "function_call": "function_call",
}
"""Our name for each. The last two go on to the template under their own; it is asked whether it writes them."""
RESULTS = ("tool", "function")
"""Roles of what a called tool gives back, which may be nothing."""
REASONING = ("reasoning_content", "reasoning", "thinking")
"""Names of a message's reasoning; transformers passes it to templates under the name that they read."""
WEIGHT = "weight"
SWITCHES = ("train", "training", "learn")
"""Other names of a weight, as other tools have them, where they hold true or false."""


@dataclass(frozen=True)
class Conversation:
    """Messages, and the tools that the assistant may call in them.

    Args:
        messages: In their order.
        tools: JSON schemas; None: there are none.
    """

    messages: Sequence[Message]
    tools: Sequence[Any] | None = None

    def with_response(self, content: str, fields: Mapping[str, Any] | None = None) -> Conversation:
        """The same with a response behind it."""
        return Conversation([*self.messages, {"role": "assistant", "content": content, **(fields or {})}], self.tools)


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
    pairs: list[tuple[Conversation, Message]] = []
    for row in range(len(split)):
        question = Conversation(open_question(split, row, prompt=prompt, extra=extra))
        pairs.append((question, {"content": _text(split, row, response)}))
    return _grouped(split, pairs)


def conversations_of_messages(split: Split, column: str, tools: str) -> Split:
    """Conversations from lists of messages; the last one is the response.

    Args:
        split: The source's rows.
        column: Of the messages.
        tools: Column of the tools, where there is one.

    Raises:
        DataError: Naming the row.
    """
    pairs = []
    for row in range(len(split)):
        where = split.where(row)
        messages = _learnable(parsed_messages(split.columns[column][row], where), where)
        context = Conversation(messages[:-1], read_tools(split, row, tools))
        pairs.append((context, {key: value for key, value in messages[-1].items() if key != "role"}))
    return _grouped(split, pairs)


def open_conversation(value: Any, where: str) -> list[Message]:
    """The messages before the next response; a response that is there already, as in training data, is left out.

    Args:
        value: A list of messages in any layout, or its JSON.
        where: The row, for messages.

    Raises:
        DataError: It is no conversation, or has nothing to respond to.
    """
    messages = parsed_messages(value, where)
    if messages[-1]["role"] == "assistant":
        messages = messages[:-1]
    if not messages or messages[-1]["role"] not in ("user", *RESULTS):
        raise DataError("the conversation holds nothing of the user's to respond to", where=where)
    return messages


def open_question(split: Split, row: int, *, prompt: str, extra: str | None) -> list[Message]:
    """A row's prompt, with what it is about, as the messages before the response.

    Raises:
        DataError: The prompt is empty.
    """
    return [{"role": "user", "content": _question(split, row, prompt, extra)}]


def read_context(text: str) -> Conversation:
    """The conversation of a context."""
    value = json.loads(text)
    return Conversation(value) if isinstance(value, list) else Conversation(value["messages"], value["tools"])


def shown_text(conversation: Conversation) -> str:
    """What its messages say, with a blank line between them."""
    contents = [content for message in conversation.messages if (content := message.get("content"))]
    return "\n\n".join(each if isinstance(each, str) else json.dumps(each, ensure_ascii=False) for each in contents)


def compared_parts(conversation: Conversation) -> list[str]:
    """The texts by which two conversations are equal: each by itself, so that blanks around a message do not count."""
    parts = []
    for message in conversation.messages:
        rest = {key: value for key, value in message.items() if key not in {"role", "content"}}
        content = message.get("content")
        said = content if isinstance(content, str) else json.dumps(content, sort_keys=True)
        parts += [str(message["role"]), said, json.dumps(rest, sort_keys=True)]
    return [*parts, json.dumps(conversation.tools, sort_keys=True)]


def read_tools(split: Split, row: int, column: str) -> list[Any] | None:
    """The tools of a row; None where it has none.

    Raises:
        DataError: They are no list of JSON objects.
    """
    value = split.columns[column][row] if column in split.columns else None
    return check_tools(value, split.where(row), column)


def check_tools(value: Any, where: str, name: str = "tools") -> list[Any] | None:
    """Tools as a list of JSON schemas; None where there are none.

    Args:
        value: The list, or its JSON.
        where: The row, for messages.
        name: The column's.

    Raises:
        DataError: They are no list of JSON objects.
    """
    if isinstance(value, str):
        try:
            value = json.loads(value) if value.strip() else None
        except (ValueError, RecursionError):
            raise DataError(f"`{name}` holds {value!r:.60}, which is not JSON", where=where) from None
    if value is None or (isinstance(value, Sequence) and not value):
        return None
    if not isinstance(value, Sequence) or not all(isinstance(item, Mapping) for item in value):
        raise DataError(f"`{name}` must be a list of JSON schemas of tools, not {value!r:.60}", where=where)
    return list(value)


def _grouped(split: Split, pairs: Sequence[tuple[Conversation, Message]]) -> Split:
    """Rows with the same context become one row with several responses: they are its references, and never parted."""
    rows: dict[str, int] = {}
    equal = 0
    responses: dict[str, list[Message]] = {}
    of_content: dict[tuple[str, str], list[Message]] = {}  # a prompt may have as many responses as there are rows
    for row, (context, response) in enumerate(pairs):
        messages = list(context.messages)
        value = messages if context.tools is None else {"messages": messages, "tools": list(context.tools)}
        key = json.dumps(value, ensure_ascii=False)
        rows.setdefault(key, row)
        known = responses.setdefault(key, [])
        alike = of_content.setdefault((key, response["content"]), [])
        if response in alike:
            equal += 1
        else:
            alike.append(response)
            known.append(response)
    further = len(pairs) - equal - len(rows)
    notes = {"rows_with_further_responses": further, "rows_with_equal_responses": equal}
    index = [split.index[row] for row in rows.values()]
    columns: dict[str, list[Any]] = {
        CONTEXT: list(rows),
        RESPONSES: [[each["content"] for each in group] for group in responses.values()],
    }
    fields = [[{k: v for k, v in each.items() if k != "content"} for each in group] for group in responses.values()]
    if any(each for group in fields for each in group):
        columns[RESPONSE_FIELDS] = fields
    return Split(split.name, index, columns, split.source, notes)


def _question(split: Split, row: int, prompt: str, extra: str | None) -> str:
    text = _text(split, row, prompt)
    about = split.columns[extra][row] if extra is not None else None
    return f"{text}\n\n{str(about).strip()}" if about is not None and str(about).strip() else text


def _text(split: Split, row: int, column: str) -> str:
    value = split.columns[column][row]
    if not isinstance(value, str):
        found = "is missing" if value is None else f"holds {value!r:.60}, which is not text"
        raise DataError(f"the column `{column}` {found}", where=split.where(row))
    if not value.strip():
        raise DataError(f"the column `{column}` is empty", where=split.where(row), hint="Remove the row, or fill it.")
    return value


def _learnable(messages: list[Message], where: str) -> list[Message]:
    """A conversation up to the last response that is to be learned; what stands behind it would be read for nothing."""
    if messages[-1]["role"] != "assistant":
        raise DataError("the conversation does not end with the assistant's response", where=where)
    if messages[0]["role"] == "assistant" and len(messages) == 1:
        raise DataError("the conversation holds nothing of the user's to respond to", where=where)
    learned = [at for at, message in enumerate(messages) if message["role"] == "assistant" and WEIGHT not in message]
    if not learned or learned[-1] == 0:
        raise DataError(
            "no response of the conversation is to be learned: each has the weight 0",
            where=where,
            hint="Remove the row, or give one of its assistant's messages the weight 1.",
        )
    return messages[: learned[-1] + 1]


def parsed_messages(value: Any, where: str) -> list[Message]:
    """The messages of a chat under our names of roles.

    Args:
        value: A list of messages in any layout, or its JSON.
        where: The row, for messages.

    Raises:
        DataError: It is none, or a message is none.
    """
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise DataError(f"a list of messages is needed, not the text {value!r:.60}", where=where) from None
    if isinstance(value, Sequence) and value and all(isinstance(item, str) for item in value):
        value = [{"role": ("user", "assistant")[place % 2], "content": text} for place, text in enumerate(value)]
    if not isinstance(value, Sequence) or not all(isinstance(item, Mapping) for item in value) or not value:
        raise DataError(f"a list of messages is needed, not {value!r:.60}", where=where)
    return [_message(item, where) for item in value]


def _message(item: Mapping[str, Any], where: str) -> Message:
    """A message under transformers' names; what it leaves open (None) is left out, as transformers does."""
    given = {key: value for key, value in item.items() if value is not None}
    role = given.pop("role", None) if "role" in given else given.pop("from", None)
    content = given.pop("content", None) if "content" in given else given.pop("value", None)
    if role not in ROLES:
        raise DataError(
            f"a message has the role {role!r}",
            where=where,
            hint=f"Roles are {', '.join(dict.fromkeys(ROLES.values()))}.",
        )
    role = ROLES[role]
    text = _content(content, role, where)
    says_something = bool(text.strip()) or any(given.get(key) for key in ("tool_calls", "function_call", *REASONING))
    if not says_something and role not in RESULTS:
        raise DataError(f"a message of the {role} is empty", where=where, hint="Fill it, or leave it out.")
    weight = given.pop(WEIGHT, None)
    for key in SWITCHES:
        if isinstance(given.get(key), bool):
            switch = given.pop(key)
            weight = weight if switch else 0
    if weight is not None:
        _check_weight(weight, role, where)
    is_unlearned = role == "assistant" and weight is not None and not weight
    return {"role": role, "content": text, **given, **({WEIGHT: 0} if is_unlearned else {})}


def _content(content: Any, role: str, where: str) -> str:
    """A message's text; parts of text are put together, since by far not every template takes them apart."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, Sequence) or not all(isinstance(part, Mapping) for part in content):
        raise DataError(f"a message of the {role} has the content {content!r:.60}, which is not text", where=where)
    for part in content:
        if part.get("type", "text") != "text" or not isinstance(part.get("text"), str):
            raise DataError(
                f"a message of the {role} has a part of the type {part.get('type')!r}; only text is read",
                where=where,
                hint="Leave the part out.",
            )
    return "".join(part["text"] for part in content)


def _check_weight(weight: Any, role: str, where: str) -> None:
    if weight not in (0, 1):
        raise DataError(
            f"a message has the weight {weight!r}; it is 0 (not learned) or 1",
            where=where,
            hint="Set it to 0 or 1.",
        )
    if role != "assistant" and weight:
        raise DataError(
            f"a message of the {role} has the weight 1, and only the assistant's messages are learned",
            where=where,
            hint="Remove the weight.",
        )

"""Chats, prompts with responses, and responses that are preferred to others."""

from __future__ import annotations

from collections.abc import Sequence

from peftlab.core.task_guess import ColumnFacts, TaskGuess, with_first_texts
from peftlab.tasks.guesses.names import (
    ANSWERS_TO_PROMPTS,
    PROMPTS,
    RESPONSES,
    closeness,
    column_called,
    is_identifier,
    named,
)

READABLE = ("text", "word", "number", "chat")


def guess_responses(columns: Sequence[ColumnFacts]) -> list[TaskGuess]:
    """Chats, or columns of prompts and responses."""
    chat = next((column for column in columns if column.kind == "chat"), None)
    if chat is not None and column_called(columns, "chosen") is None:
        reasons = {"messages": "a list of messages in each row"}
        return [TaskGuess({"messages": chat.name}, 0.95, reasons, (chat.name,), reads_left_to_right=True)]
    pair = _prompt_and_response(columns)
    if pair is None or not closeness(pair[1].name, ANSWERS_TO_PROMPTS):
        return []
    prompt, response = pair
    keys = {"prompt": prompt.name, "response": response.name}
    more = column_called(columns, "input", "context")
    if more is not None and more not in pair and more.kind in READABLE:
        keys["input"] = more.name
    reasons = {"prompt": "a name for what is asked", "response": "a name for what is to be written"}
    sure = 0.85 if response.kind == "text" else 0.75
    return [TaskGuess(keys, sure, reasons, tuple(keys.values()), reads_left_to_right=True)]


def guess_texts_to_write(columns: Sequence[ColumnFacts]) -> list[TaskGuess]:
    """A text for another text, such as a summary, where several may be right."""
    pair = _prompt_and_response(columns)
    if pair is None or closeness(pair[1].name, ANSWERS_TO_PROMPTS):
        return _nameless(columns)
    prompt, response = pair
    reasons = {"prompt": "a name for what is given", "response": "a name for what is to be written"}
    keys = {"prompt": prompt.name, "response": response.name}
    return [TaskGuess(keys, 0.75, reasons, tuple(keys.values()), reads_left_to_right=True)]


def guess_preferences(columns: Sequence[ColumnFacts]) -> list[TaskGuess]:
    """Pairs of responses, or responses that are desirable or not."""
    chosen = column_called(columns, "chosen", "preferred", "accepted")
    rejected = column_called(columns, "rejected", "dispreferred", "refused")
    prompt = column_called(columns, "prompt", "question", "instruction", "input")
    if chosen is not None and rejected is not None:
        keys = {"chosen": chosen.name, "rejected": rejected.name, **({"prompt": prompt.name} if prompt else {})}
        reasons = {"chosen": "the names say which response is preferred"}
        return [TaskGuess(keys, 0.98, reasons, tuple(keys.values()), reads_left_to_right=True)]
    response = column_called(columns, "completion", "response")
    label = column_called(columns, "label", "desirable", "thumbs_up")
    if prompt is None or response is None or label is None or label.distinct != 2:
        return []
    keys = {"objective": "kto", "prompt": prompt.name, "response": response.name, "label": label.name}
    texts = (prompt.name, response.name)
    reasons = {"objective": "each response is labelled by itself"}
    return [TaskGuess(keys, 0.93, reasons, texts, (label.name,), reads_left_to_right=True)]


def _prompt_and_response(columns: Sequence[ColumnFacts]) -> tuple[ColumnFacts, ColumnFacts] | None:
    columns = with_first_texts(columns)
    prompt = column_called(columns, "prompt", "instruction")
    response = column_called(columns, "response", "completion", "output")
    if prompt is not None and response is not None and {prompt.kind, response.kind} <= set(READABLE):
        return prompt, response  # nobody calls a class so
    texts = [column for column in columns if column.kind in READABLE and not is_identifier(column)]
    prompt = named(texts, PROMPTS)
    response = named([column for column in texts if column is not prompt], RESPONSES)
    if prompt is None or response is None or response.kind == "number":
        return None
    few = response.distinct_share < 0.2 and response.mean_words < 4
    return None if few or (response.kind == "word" and response.distinct < 10) else (prompt, response)


def _nameless(columns: Sequence[ColumnFacts]) -> list[TaskGuess]:
    """Two columns of long texts and nothing else: the second is written for the first."""
    if len(columns) != 2 or any(column.kind != "text" or column.distinct < 10 for column in columns):
        return []
    first, second = columns
    if second.mean_words < 4 or second.distinct_share < 0.3:
        return []
    keys = {"prompt": first.name, "response": second.name}
    reasons = {"response": "two columns of texts, and no other: the second may be written for the first"}
    return [TaskGuess(keys, 0.6, reasons, tuple(keys.values()), reads_left_to_right=True)]

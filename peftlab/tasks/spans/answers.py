"""Answers with their place in a passage, from the layouts that SQuAD's rows have (https://arxiv.org/abs/1806.03822)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from peftlab.core.errors import DataError


@dataclass(frozen=True)
class Answer:
    """An answer, as it stands in its passage.

    Args:
        text: Of the answer.
        start: Of its first character in the passage, from 0.
    """

    text: str
    start: int

    @property
    def end(self) -> int:
        """The character behind its last one."""
        return self.start + len(self.text)


def read_answers(value: Any, passage: str, where: str) -> list[Answer]:
    """The answers of a row; none: the passage does not answer the question.

    Args:
        value: ``{text: […], answer_start: […]}``, a list of ``{text, answer_start}`` or of texts, one text, or nothing;
            also as JSON. A text without a place is looked for in the passage.
        passage: They stand in it.
        where: The row.

    Raises:
        DataError: An answer is not where it should be.
    """
    return [_placed(text, start, passage, where) for text, start in _pairs(_parsed(value), where)]


def _parsed(value: Any) -> Any:
    if isinstance(value, str) and value.strip()[:1] in ("{", "["):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def _pairs(value: Any, where: str) -> list[tuple[str, int | None]]:
    if value is None or value == "":
        return []
    if isinstance(value, str):
        return [(value, None)]
    if isinstance(value, Mapping):
        texts, starts = value.get("text"), value.get("answer_start")
        if isinstance(texts, str):
            return [(texts, _whole(starts, where))] if texts else []
        texts = [] if texts is None else list(texts)
        places = [None] * len(texts) if starts is None else list(starts)
        if len(places) != len(texts):
            raise DataError(f"{len(texts)} answers, but {len(places)} values of answer_start", where=where)
        return [(str(text), _whole(place, where)) for text, place in zip(texts, places, strict=True)]
    if isinstance(value, Sequence):
        return [pair for item in value for pair in _pairs(item, where)]
    raise DataError(
        f"{value!r:.60} holds no answers",
        where=where,
        hint="Answers are {text: […], answer_start: […]}, a list of texts, or nothing where there is no answer.",
    )


def _whole(value: Any, where: str) -> int | None:
    if value is None:
        return None
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):
        raise DataError(f"answer_start is {value!r}; the place of a character is needed", where=where) from None


def _placed(text: str, start: int | None, passage: str, where: str) -> Answer:
    if not text.strip():
        raise DataError(
            "an answer is empty", where=where, hint="Leave the list of answers empty where the passage answers nothing."
        )
    if start is None:
        found = passage.find(text)
        if found < 0:
            raise DataError(
                f"the answer {text!r:.60} is not in its passage, {passage!r:.60}",
                where=where,
                hint="An answer is a piece of the passage, letter by letter.",
            )
        return Answer(text, found)
    if start < 0 or passage[start : start + len(text)] != text:
        places = [at for at in range(len(passage)) if passage.startswith(text, at)]
        nearest = min(places, key=lambda at: abs(at - start), default=None)
        is_inside = 0 <= start < len(passage)
        there = f"has {passage[start : start + len(text)]!r:.60} there" if is_inside else f"ends at {len(passage)}"
        raise DataError(
            f"the answer {text!r:.60} is not at offset {start} of its passage, which {there}",
            where=where,
            hint="It is nowhere in it." if nearest is None else f"It is at {nearest}: mend answer_start.",
        )
    return Answer(text, start)

"""What the columns of a table hold, told from their values."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from random import Random
from typing import Any

from peftlab.core.task_guess import TEXT_WORDS, ColumnFacts, ColumnKind
from peftlab.data.table import Table

MOST_ROWS = 20_000
NEARLY_ALL = 0.98
_NUMBER = re.compile(r"[-+−]?(?:\d{1,3}(?:[.,' ]\d{3})+|\d+)(?:[.,]\d+)?(?:[eE][-+]?\d+)?|[-+]?[.,]\d+")
_TIME = re.compile(r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}([T ].*)?|\d{4}-\d{2}-\d{2}.*|\w{3} \w{3} \d{1,2} .*\d{4}")
_EAST_ASIAN = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")


def facts_of(table: Table) -> list[ColumnFacts]:
    """The facts of each column, from rows that are spread over the table."""
    places = some_rows(len(table), MOST_ROWS)
    last = max(len(table.names) - 1, 1)
    return [
        _facts(name, [table.columns[name][at] for at in places], at=position / last)
        for position, name in enumerate(table.names)
        if name in table.columns
    ]


def some_rows(count: int, most: int) -> Sequence[int]:
    """So many rows at most, drawn, in their order. Each second one would be of one class where two take turns."""
    return range(count) if count <= most else sorted(Random(0).sample(range(count), most))  # noqa: S311 - no secret


def mean_words(values: Sequence[str]) -> float:
    """Words of a value; two characters of Chinese, Japanese or Korean are one."""
    words = sum(len(value.split()) + len(_EAST_ASIAN.findall(value)) / 2 for value in values)
    return words / max(len(values), 1)


def _facts(name: str, values: Sequence[Any], *, at: float) -> ColumnFacts:
    present = [value for value in values if value is not None and value != "" and value == value]
    kind = _kind(name, present)
    distinct = len({value if isinstance(value, str | int | float | bool) else repr(value) for value in present})
    if kind == "number":
        present = [_number(value) for value in present]
    strings = [item for items in present for item in items] if kind == "words" else present
    words = mean_words(strings) if kind in ("text", "word", "time", "words") and _strings(strings) else 0.0
    return ColumnFacts(name, kind, present, len(values), distinct, words, at)


def _kind(name: str, values: Sequence[Any]) -> ColumnKind:
    if not values:
        return "empty"
    if all(isinstance(value, Mapping) for value in values):
        return "mapping"
    if all(isinstance(value, list | tuple) for value in values):
        return _kind_of_lists(values)
    if all(isinstance(value, bool) for value in values):
        return "number"
    if any(isinstance(value, datetime) for value in values):
        return "time"
    if all(isinstance(value, int | float) for value in values):
        return "time" if _are_stamps(name, values) else "number"
    if not _strings(values):
        return "list"
    if _share(values, _TIME) > NEARLY_ALL:
        return "time"
    if _share(values, _NUMBER) > NEARLY_ALL and all(_is_number(value) for value in values):
        return "time" if _are_stamps(name, [_number(value) for value in values]) else "number"
    return "text" if mean_words(values) > TEXT_WORDS else "word"


def _kind_of_lists(values: Sequence[Sequence[Any]]) -> ColumnKind:
    items = [item for value in values for item in value]
    if items and all(isinstance(item, Mapping) and {"role", "from"} & set(item) for item in items):
        return "chat"
    return "words" if items and all(isinstance(item, str) for item in items) else "list"


def _are_stamps(name: str, values: Sequence[float]) -> bool:
    """Whether numbers are seconds or milliseconds since 1970, by their size and their column's name."""
    if not re.search(r"time|date|stamp|created|when", name.lower()):
        return False
    return all(3e8 < value < 4e9 or 3e11 < value < 4e12 for value in values)


def _strings(values: Sequence[Any]) -> bool:
    return all(isinstance(value, str) for value in values)


def _share(values: Sequence[str], pattern: re.Pattern[str]) -> float:
    return sum(pattern.fullmatch(value.strip()) is not None for value in values) / len(values)


def _is_number(value: str) -> bool:
    try:
        _number(value)
    except ValueError:
        return False
    return True


def _number(value: Any) -> float:
    """A number as it was most likely meant; only how numbers are spread matters here."""
    if not isinstance(value, str):
        try:
            return float(value)
        except OverflowError:
            return math.inf if value > 0 else -math.inf
    text = value.strip().replace("−", "-").replace(" ", "").replace("'", "")
    if "," in text:
        text = text.replace(".", "").replace(",", ".") if text.rfind(",") > text.rfind(".") else text.replace(",", "")
    return float(text)

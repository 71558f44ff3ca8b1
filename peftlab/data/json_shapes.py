"""The table within a JSON document: APIs and libraries wrap it, or lay it out in ways of their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from peftlab.data.nested_questions import rows_of_articles

_DEPTH = 4


def unwrapped(value: Any) -> Any:
    """The rows, columns or splits of a document, without what is around them.

    An object with one list of objects among other things (``{"version": 1, "data": [{…}]}``) holds that list; an
    object whose only object holds a table holds that one; pandas' ways to write a table (``columns``, ``index`` and
    ``split``) become objects of columns or lists of rows; so do the questions of SQuAD's articles. Whatever else it
    is stays as it is.
    """
    questions = rows_of_articles(value)
    if questions is not None:
        return questions
    for _ in range(_DEPTH):
        inner = _inner(value)
        if inner is value:
            break
        value = inner
    return value


def _inner(value: Any) -> Any:
    if not isinstance(value, Mapping) or not value:
        return value
    if {"columns", "data"} <= set(value) <= {"columns", "index", "data", "index_names", "column_names"}:
        return _of_split_layout(value["columns"], value["data"], value)
    if all(isinstance(item, Mapping) and item for item in value.values()):
        table = _of_numbered_objects(value)
        if table is not None:
            return table
    tables = [item for item in value.values() if _is_list_of_objects(item)]
    lists = [item for item in value.values() if isinstance(item, list)]
    if len(tables) == 1 and len(lists) == 1:
        return tables[0]
    objects = [item for item in value.values() if isinstance(item, Mapping)]
    if not lists and len(objects) == 1 and _holds_lists(objects[0]):
        return objects[0]
    return value


def _of_split_layout(columns: Any, rows: Any, value: Any) -> Any:
    fits = isinstance(columns, list) and isinstance(rows, list) and all(isinstance(name, str) for name in columns)
    if not fits or not all(isinstance(row, list) and len(row) == len(columns) for row in rows):
        return value
    return [dict(zip(columns, row, strict=True)) for row in rows]


def _of_numbered_objects(value: Mapping[str, Any]) -> Any:
    """``{"text": {"0": …}, "label": {"0": …}}`` or ``{"0": {"text": …}, "1": {…}}``, as pandas writes them."""
    inner = [set(item) for item in value.values()]
    if all(_is_number(key) for keys in inner for key in keys) and all(keys == inner[0] for keys in inner):
        # By the numbers of one column: another one may have them in another order.
        return {name: [item[key] for key in next(iter(value.values()))] for name, item in value.items()}
    return list(value.values()) if all(_is_number(key) for key in value) else None


def _is_list_of_objects(item: Any) -> bool:
    return isinstance(item, list) and bool(item) and all(isinstance(row, Mapping) for row in item)


def _holds_lists(item: Any) -> bool:
    """Whether an object has a list in it, directly or in its only object."""
    if not isinstance(item, Mapping):
        return False
    if any(isinstance(value, list) for value in item.values()):
        return True
    return any(_holds_lists(value) for value in item.values() if isinstance(value, Mapping))


def _is_number(key: str) -> bool:
    return key.isdecimal()

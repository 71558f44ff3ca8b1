"""What a plugin gives, looked at where it arrives: a value of another kind would fail far from its cause."""

from __future__ import annotations

import numbers
import reprlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pydantic_core import PydanticSerializationError, to_jsonable_python

from peftlab.core.errors import PluginError, first_line

if TYPE_CHECKING:
    from peftlab.core.task_answers import Prediction


def check_kind(value: Any, kind: type, *, what: str, hint: str) -> None:
    """Refuse a value of another kind.

    Args:
        value: As it was given.
        kind: What it must be.
        what: Who has given it, in words: ``apply of my_method``.
        hint: What to give.

    Raises:
        PluginError: With what was given.
    """
    if not isinstance(value, kind):
        raise PluginError(f"{what} has given {reprlib.repr(value)}, and not a {kind.__name__}", hint=hint)


def number_of(value: Any, *, what: str) -> float:
    """A number, whichever library's it is.

    Raises:
        PluginError: It is none.
    """
    if isinstance(value, numbers.Real):
        return float(value)
    raise PluginError(f"{what} has given {reprlib.repr(value)}, and not a number", hint="Give a float.")


def check_plain(value: Any, *, what: str) -> None:
    """Refuse what JSON cannot hold, since the record keeps it.

    Raises:
        PluginError: With the type that it has met.
    """
    try:
        to_jsonable_python(value)
    except PydanticSerializationError as error:
        raise PluginError(
            f"the record cannot hold {what}: {first_line(error)}",
            hint="Give numbers, texts, lists and dictionaries; .item() and .tolist() make them of arrays.",
        ) from None


def check_count(predictions: Sequence[Prediction], examples: int, *, what: str) -> None:
    """Refuse predictions that are not one an example: they would be taken for those of other rows.

    Raises:
        PluginError: With both numbers.
    """
    if len(predictions) != examples:
        raise PluginError(
            f"{what} has given {len(predictions)} predictions for {examples} examples", hint="Give one an example."
        )

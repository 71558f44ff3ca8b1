"""The numbers in the lines of a metrics log, which others may have written, or nobody finished."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


def number_in(line: Mapping[str, Any], name: str) -> float | None:
    """A value of a line; None where there is none, or no finite number."""
    return _finite(line.get(name))


def scores_in(line: Mapping[str, Any]) -> dict[str, float]:
    """The scores of the validation split, finite numbers whose names can be shown; empty where the line has none."""
    scores = line.get("validation")
    found = {name: _finite(value) for name, value in scores.items()} if isinstance(scores, Mapping) else {}
    return {name: value for name, value in found.items() if value is not None and name.isprintable()}


def _finite(value: Any) -> float | None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    try:
        number = float(value)
    except OverflowError:  # a whole number of hundreds of digits
        return None
    return number if math.isfinite(number) else None

"""Which settings differ between two recipes, as a person is told it."""

from __future__ import annotations

import json


def changed_settings(earlier: object, now: object, prefix: str = "") -> list[str]:
    """The keys whose values differ between two mappings, with both values."""
    if isinstance(earlier, dict) and isinstance(now, dict):
        below = [(f"{prefix}.{key}".strip("."), earlier.get(key), now.get(key)) for key in sorted(earlier | now)]
        return [text for key, before, after in below for text in changed_settings(before, after, key)]
    return [] if earlier == now else [f"{prefix} was {as_written(earlier)}, is {as_written(now)}"]


def as_written(value: object) -> str:
    """A value as a recipe has it: JSON is YAML too."""
    return "not set" if value is None else json.dumps(value, ensure_ascii=False, default=str)

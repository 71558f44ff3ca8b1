"""What a client is told of a request that cannot be read: what is wrong with it, and what to send."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

BODIES = {"model_attributes_type": "object", "model_type": "object", "dict_type": "object", "list_type": "list"}
"""By pydantic's names of problems: what a body should have been."""


def say_what_is_wrong(content_type: str, problems: Sequence[Mapping[str, Any]]) -> tuple[str, str | None]:
    """The message and, where there is one, the hint.

    Args:
        content_type: The header of the request; empty where there is none.
        problems: As FastAPI found them; the first one is told.
    """
    first = problems[0]
    kind, place = first["type"], ".".join(str(part) for part in first["loc"][1:])
    in_whole_body = tuple(first["loc"]) == ("body",)
    if kind == "json_invalid":
        return f"the body is not JSON: {first['ctx']['error']} at character {place}", None
    if in_whole_body and kind == "missing":
        return "the body is empty", None
    if in_whole_body and kind in BODIES:
        if "json" not in content_type:
            return "the body is not marked as JSON", "Send the header `content-type: application/json`."
        return f"the body is no {BODIES[kind]} of JSON", None
    if kind == "missing":
        return f"`{place}` is missing", None
    if kind == "extra_forbidden":
        return f"`{place}` is no key of this route", None
    said = first["msg"].removeprefix("Value error, ")
    return f"{place}: {said}" if place else said, None


def say_no_route(method: str, path: str, status: int) -> str:
    """The message where no route has this path (404), or the route has another method (405)."""
    return f"there is no route {path}" if status == 404 else f"{path} does not take {method}"

"""An entry under ``methods`` of a suite: the keys beside the method's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from peftlab.core.config import Document, KeyPath
from peftlab.core.method import METHODS
from peftlab.core.selection import STRATEGIES
from peftlab.recipe.registered import build_registered


def check_entry(document: Document, entry: Mapping[str, Any], place: KeyPath) -> None:
    """See that the suite's own keys of a method are right, before anything relies on them.

    Raises:
        ConfigError: With file, line and key.
    """
    if "type" not in entry:
        raise document.error(place, "the key `type` is required", f"Known: {', '.join(METHODS.names())}.")
    METHODS.get(entry["type"], where=document.where((*place, "type")))
    if not isinstance(entry.get("name", ""), str | int):
        raise document.error((*place, "name"), f"a name is needed, not {entry['name']!r}")
    for key in ("set", "then"):
        if not isinstance(entry.get(key, {}), Mapping):
            raise document.error((*place, key), f"a mapping of keys to values is needed, not {entry[key]!r}")
    if not isinstance(entry.get("router", False), bool):
        raise document.error((*place, "router"), "true or false is needed")
    if document.values.get("labels"):
        if "select" not in entry:
            raise document.error(
                place,
                "a suite with `labels` needs `select` in each method, such as {type: random}",
                f"Known: {', '.join(STRATEGIES.names())}.",
            )
        build_registered(STRATEGIES, entry["select"], document, (*place, "select"))
    elif "select" in entry:
        raise document.error((*place, "select"), "it chooses rows to label, and the suite has no `labels`")
    then = entry.get("then", {})
    for key in ("then", "router"):
        if entry.get(key) and not document.values.get("sequence"):
            raise document.error((*place, key), "it says how tasks follow each other, and the suite has no `sequence`")
    for key in then:
        if key in ("seed", "name", "continues", "continues.run") or key.split(".")[0] == "data":
            raise document.error((*place, "then", key), f"`{key}` is set by the sequence, not by a method")
    begins_anew = then.get("continues.weights", True) is False and then.get("continues.replay") == 0
    if entry.get("router") and not begins_anew:
        raise document.error(
            (*place, "router"),
            "a router chooses among runs that have learned their own task alone",
            "Set `continues.weights: false` and `continues.replay: 0` under `then`.",
        )

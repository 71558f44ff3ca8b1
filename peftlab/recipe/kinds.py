"""Recipes, suites and applications are all YAML: one in the place of another is named as what it is."""

from __future__ import annotations

from peftlab.core.application import APPLICATIONS
from peftlab.core.config import Document
from peftlab.core.errors import ConfigError

RECIPE, SUITE, APPLICATION = "a recipe of one run", "a suite", "an application"
_VERBS = {RECIPE: "run", SUITE: "bench", APPLICATION: "app build"}


def kind_of(document: Document) -> str | None:
    """Which kind a file is by its keys; None: that cannot be told, as of a recipe with misspelt keys."""
    values = document.values
    if "methods" in values and not values.keys() & {"model", "task"}:
        return SUITE
    if "task" in values:
        return None if "type" in values or "methods" in values else RECIPE
    kind = values.get("type")
    return APPLICATION if isinstance(kind, str) and kind in APPLICATIONS else None


def check_kind(document: Document, wanted: str) -> None:
    """Refuse a file of another kind.

    Raises:
        ConfigError: With the verb that takes it.
    """
    kind = kind_of(document)
    if kind is not None and kind != wanted:
        raise ConfigError(
            f"this is {kind}, and {wanted} is needed",
            where=document.source,
            hint=f"Use `peftlab {_VERBS[kind]} {document.source}`.",
        )

"""Recipes, suites and applications are all YAML: one in the place of another is named as what it is."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from peftlab.core.application import APPLICATIONS
from peftlab.core.config import Document, read_yaml
from peftlab.core.errors import ConfigError
from peftlab.core.files import near_file
from peftlab.data.formats import ENDINGS
from peftlab.recipe.shipped import near_shipped

RECIPE, SUITE, APPLICATION = "a recipe of one run", "a suite", "an application"
_VERBS = {RECIPE: "run", SUITE: "bench", APPLICATION: "app build"}


_YAML = frozenset({".yaml", ".yml"})


def read_kind(path: Path, wanted: str) -> Document:
    """Read a recipe, a suite or an application.

    Raises:
        ConfigError: It cannot be read, or is of another kind; with what the user may have meant.
    """
    try:
        document = read_yaml(path)
    except ConfigError as error:
        if os.path.lexists(path):
            error.hint = error.hint or _what_may_be_meant(path, wanted)
        else:
            error.hint = near_file(path, "*.y*ml") or _near_shipped(path, wanted) or error.hint
        raise
    check_kind(document, wanted)
    return document


def _near_shipped(path: Path, wanted: str) -> str | None:
    return None if wanted == SUITE else near_shipped(path)


def _what_may_be_meant(path: Path, wanted: str) -> str | None:
    if path.is_dir():
        inside = sorted(item for item in path.iterdir() if item.suffix in _YAML)
        return f"Did you mean `{inside[0]}`?" if inside else None
    if wanted == RECIPE and path.suffix.lower() in ENDINGS.keys() - _YAML:
        return f"Is it a table? `peftlab init {shlex.quote(str(path))}` writes a recipe that fits it."
    return None


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
            hint=f"Use `peftlab {_VERBS[kind]} {shlex.quote(document.source)}`.",
        )

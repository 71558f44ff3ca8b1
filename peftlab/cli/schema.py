"""``peftlab schema``: JSON Schema, for editors."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Annotated

import typer


class Document(StrEnum):
    """What there is a schema of."""

    RECIPE = "recipe"


def schema(document: Annotated[Document, typer.Argument(help="The kind of file.", show_default=False)]) -> None:
    """Print the JSON Schema of a recipe, with every installed task and method."""
    from peftlab.recipe import recipe_schema

    assert document is Document.RECIPE  # noqa: S101 - the only one so far
    print(json.dumps(recipe_schema(), indent=2, ensure_ascii=False))

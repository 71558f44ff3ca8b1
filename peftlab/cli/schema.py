"""``peftlab schema``: JSON Schema, for editors."""

from __future__ import annotations

import json
from typing import Annotated, Literal

import typer

Document = Literal["recipe", "suite", "application"]


def schema(
    document: Annotated[Document, typer.Argument(metavar="DOCUMENT", help="The kind of file.", show_default=False)],
) -> None:
    """Print the JSON Schema of a recipe, a suite or an application, with all that is installed."""
    if document == "recipe":
        from peftlab.recipe.json_schema import recipe_schema

        content = recipe_schema()
    elif document == "application":
        from peftlab.assembly.app_file import application_schema

        content = application_schema()
    else:
        from peftlab.bench.suite import suite_schema

        content = suite_schema()
    print(json.dumps(content, indent=2, ensure_ascii=False))

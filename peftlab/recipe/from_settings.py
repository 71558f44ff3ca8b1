"""A recipe without a file: every key is given on the command line."""

from __future__ import annotations

from collections.abc import Sequence

from peftlab.core.config import Document
from peftlab.core.errors import UserError
from peftlab.recipe.schema import Recipe, build_recipe, override
from peftlab.recipe.values import name_of


def recipe_of_settings(settings: Sequence[str]) -> tuple[Recipe, Document]:
    """A recipe made of ``key.path=value`` alone. Without a ``name`` task and method make one.

    Returns:
        The recipe, and the document that knows the places of its keys.

    Raises:
        UserError: There are no settings, or they are no recipe.
    """
    if not settings:
        raise UserError(
            "a recipe is needed",
            hint="Give its file, or write one with `peftlab init DATA`; or give every key: --set model.path=… --set "
            "task.type=… --set data.source=… --set method.type=….",
        )
    document = override(Document("--set", {}), settings)
    return build_recipe(document, default_name=name_of(document.values)), document

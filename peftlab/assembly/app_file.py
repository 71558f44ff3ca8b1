"""An application's recipe: read from YAML, and its schema."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peftlab.core.application import APPLICATIONS, Application
from peftlab.core.config import Document, read_yaml
from peftlab.core.definitions import define
from peftlab.recipe.kinds import APPLICATION, read_kind
from peftlab.recipe.registered import build_registered
from peftlab.recipe.schema import Recipe, assign, build_recipe, override
from peftlab.recipe.shipped import find_recipe

RUNS = Path("runs")


@dataclass(frozen=True)
class AppFile:
    """An application's recipe as it was read.

    Args:
        application: What it says.
        document: Knows the lines of its keys, and the folder in which relative addresses start.
    """

    application: Application
    document: Document

    @property
    def default_folder(self) -> Path:
        """Where the application is built unless another place is named."""
        return RUNS / self.application.name


def load_application(path: Path | str, overrides: Sequence[str] = ()) -> AppFile:
    """Read an application's recipe.

    Args:
        path: The file, or the name of one that comes with peftlab.
        overrides: ``key.path=value`` each, the value in YAML.

    Raises:
        ConfigError: With file, line and key.
    """
    path = find_recipe(path)
    document = read_kind(path, APPLICATION)
    document = override(document, overrides)
    values = {"name": path.stem, **document.values}
    return AppFile(build_registered(APPLICATIONS, values, document, ()), document)


def load_part(file: AppFile, key: str, prepared: Mapping[str, Any] | None = None) -> tuple[Recipe, Document]:
    """The recipe of a part, with the application's overrides.

    Args:
        file: The application's recipe.
        key: Of the part.
        prepared: What the application itself sets, such as where the tables lie that it has made.

    Raises:
        ConfigError: With file, line and key.
    """
    part = file.application.parts()[key]
    here = (file.document.folder or Path()) / str(part.recipe)
    path = find_recipe(here if here.exists() else str(part.recipe))
    if not path.exists():
        raise file.document.error((key, "recipe"), f"there is no recipe {part.recipe}", "See `peftlab ls recipes`.")
    given = {**(prepared or {}), **part.set}
    places = {name: file.document.where((key, "set", name) if name in part.set else (key,)) for name in given}
    document = assign(read_yaml(path), given, places)
    return build_recipe(document, default_name=path.stem), document


def application_schema() -> dict[str, Any]:
    """The JSON Schema of an application's recipe, with every registered application."""
    definitions: dict[str, Any] = {}
    choices = []
    for name, cls in APPLICATIONS.items():
        choices.append(define(name, cls, definitions))
        own = definitions[name]
        own["required"] = [key for key in own["required"] if key != "name"]
    schema = "https://json-schema.org/draft/2020-12/schema"
    return {"$schema": schema, "title": "peftlab application", "oneOf": choices, "$defs": definitions}

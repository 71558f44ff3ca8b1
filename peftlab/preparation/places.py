"""Errors from below get the recipe's file and line."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

from peftlab.core.config import Document, KeyPath
from peftlab.core.errors import DataError, PeftlabError, SourceError
from peftlab.recipe.shipped import said_at_top

_KEY = re.compile(r"(model|task|data|method|training|evaluation)(\.\w+)*")
_KEY_OF_SOURCE: dict[str | int, KeyPath] = {"model": ("model", "path"), "data": ("data", "source")}


@contextlib.contextmanager
def at_place(document: Document, path: KeyPath) -> Iterator[None]:
    """Put the recipe's file and line on errors that come from below, which know a key at most."""
    try:
        yield
    except PeftlabError as error:
        inner = error.where or ""
        if inner.startswith((document.source, "--set")):
            raise
        if isinstance(error, DataError) and document.values.get("data"):
            path = ("data",)  # whatever stage has met the row
        key = _KEY_OF_SOURCE.get(path[0])
        if isinstance(error, SourceError) and key is not None and key not in document.places:
            said = said_at_top(document.source)
            hints = [error.hint or "", *(["The recipe says:", *(f"  {line}" for line in said)] if said else [])]
            error.hint = "\n  ".join(filter(None, hints)) or None
        if _KEY.fullmatch(inner):
            error.where = document.where(tuple(inner.split(".")))
        else:
            error.where = f"{document.where(path)}: {inner}" if inner else document.where(path)
        raise

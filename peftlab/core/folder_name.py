"""Names that a folder is called by: letters, digits and a few signs, and short enough for any file system."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field

MOST_BYTES = 200
"""File systems take 255; the time, the seed and the marks of temporary files come behind the name."""
PATTERN = r"^[\w][\w.-]*$"


def folder_name(name: str) -> str:
    """The name, if a folder can be called so.

    Raises:
        ValueError: It cannot.
    """
    if not re.fullmatch(PATTERN, name):
        raise ValueError(
            f"{name!r} cannot name a folder; use letters, digits, `_`, `.` and `-`, and begin with a letter or digit"
        )
    if len(name.encode()) > MOST_BYTES:
        raise ValueError(f"the name is too long for a folder: {len(name.encode())} bytes, at most {MOST_BYTES}")
    return name


FolderName = Annotated[str, AfterValidator(folder_name), Field(json_schema_extra={"pattern": PATTERN})]

"""One thing that was looked at."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

Status = Literal["ok", "note", "problem"]


@dataclass(frozen=True)
class Finding:
    """What was found, and what it means.

    Args:
        name: What was looked at.
        status: ``problem``: runs fail because of it; ``note``: something does not work that a run may want.
        found: In a few words.
        meaning: What it means for a user, in a sentence.
        values: The figures, for a program.
    """

    name: str
    status: Status
    found: str
    meaning: str
    values: dict[str, Any] = field(default_factory=dict)

    def public(self) -> dict[str, Any]:
        """For an issue that others read: home folders are ``~``."""
        shown: dict[str, Any] = without_home(asdict(self))
        return shown


def without_home(value: Any) -> Any:
    """The same value, with ``~`` for the user's home folder in every text."""
    home = str(Path.home())
    if isinstance(value, str):
        return value.replace(home, "~") if home not in ("/", "") else value
    if isinstance(value, dict):
        return {key: without_home(item) for key, item in value.items()}
    return [without_home(item) for item in value] if isinstance(value, list) else value

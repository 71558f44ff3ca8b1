"""The ``continues`` section of a recipe: the run that this one goes on from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field

from peftlab.core.config import Config
from peftlab.core.record import CELLS

EARLIER = "$earlier"
"""Stands for the folder of the run before, where that is not known or does not matter."""


class Continuation(Config):
    """Go on from where an earlier run ended, with new rows."""

    run: str = Field(min_length=1, description="The folder of the earlier run. It is only read.")
    replay: float = Field(
        0.05,
        ge=0,
        le=1,
        description="Share of the earlier training rows that is learned again beside the new ones, drawn by the seed. "
        "1: all of them. 0: none, and then the run does not need the earlier rows.",
    )
    weights: bool = Field(
        True,
        description="Begin with the earlier run's weights. false: with the base's, so that only its rows are taken up; "
        "with replay 1 that is training on everything together.",
    )


def put_in_place(values: Any, old: str, new: str) -> Any:
    """Plain values in which one text stands for another, such as a folder for :data:`EARLIER`."""
    if isinstance(values, dict):
        return {key: put_in_place(item, old, new) for key, item in values.items()}
    if isinstance(values, list):
        return [put_in_place(item, old, new) for item in values]
    return new if values == old else values


def without_folder(values: dict[str, Any]) -> dict[str, Any]:
    """A recipe's values that do not tell where its suite lies: the run before goes by the name of its own folder.

    Args:
        values: Of a recipe, in plain types.
    """
    run = (values.get("continues") or {}).get("run")
    if not isinstance(run, str) or Path(run).parent.name != CELLS:
        return values
    place: dict[str, Any] = put_in_place(values, run, Path(run).name)
    return place

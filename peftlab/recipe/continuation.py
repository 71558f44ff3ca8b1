"""The ``continues`` section of a recipe: the run that this one goes on from."""

from __future__ import annotations

from pydantic import Field

from peftlab.core.config import Config


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

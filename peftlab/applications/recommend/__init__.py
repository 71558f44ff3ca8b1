"""Recommendation from texts and behaviour: a text tower, collaborative factors, and a ranking learned from both."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from peftlab.core.application import APPLICATIONS, Application, Hosting, Part, Workplace
from peftlab.core.audit import Findings
from peftlab.core.config import Config

if TYPE_CHECKING:
    from starlette.types import ASGIApp

Split = Literal["temporal_user", "temporal_global"]
"""Where events are cut to be judged: for each user, or at one moment for all (Meng and others, RecSys 2020)."""


class Items(Config):
    """The table of the catalogue."""

    source: str = Field(description="Its address: a file, pypi:DIST==VERSION/PATH, or a Hub id.")
    id: str = Field("item", description="The column of the item's name, which events use.")
    title: str = Field("title", description="The column of the title.")
    text: list[str] = Field(default_factory=list, description="Columns of texts that describe the item.")
    keep: PositiveInt | None = Field(None, description="Read only so many of the first rows. null: all.")


class Events(Config):
    """The table of what users chose."""

    source: str = Field(description="Its address.")
    user: str = Field("user", description="The column of the user.")
    item: str = Field("item", description="The column of the item.")
    time: str = Field("time", description="The column of the time: seconds since 1970, or as in 2026-03-01T12:00:00Z.")
    value: str | None = Field(None, description="The column of a rating. null: every event counts.")
    least_value: float = Field(0.0, description="Events with a lower rating are no choice, and are left out.")


class Text(Config):
    """How the text tower learns from events."""

    pairs: PositiveInt = Field(12_000, description="At most so many pairs of items that a user chose in turn.")
    within: PositiveInt = Field(3, description="So many events later an item still counts as what a user did next.")


@APPLICATIONS.register("recommend")
class Recommend(Application):
    """Recommend items by what users did and by what items say; new items and new users by text."""

    needs_packages: ClassVar[Mapping[str, str]] = {"implicit": "recommend"}

    items: Items = Field(description="The catalogue.")
    events: Events = Field(description="What users chose, with times.")
    text: Part = Field(description="The text tower: a recipe of the task text_embedding, on pairs that are made here.")
    pairs: Text = Field(default_factory=Text, description="The pairs that the text tower learns from.")
    leave_out_faulty_rows: bool = Field(
        False, description="Leave out rows that cannot be used, and say how many. false: the first one is an error."
    )
    factors: PositiveInt = Field(64, description="Size of the collaborative factors (ALS).")
    exact_items: PositiveInt = Field(
        4000, description="Of so many of the most popular items EASE learns how each speaks for each other."
    )
    regularization: PositiveFloat | None = Field(
        None,
        description="Of EASE: a higher one trusts rare items less. null: chosen on the last training events.",
    )
    half_life: PositiveFloat = Field(
        20.0, description="A user's event counts half as much as one that is so many events later."
    )
    candidates: PositiveInt = Field(100, description="So many items of each source are ranked.")
    diversity: NonNegativeFloat = Field(
        0.1, le=1, description="How much an item loses that says the same as one above it (MMR). 0: nothing."
    )
    approximate_from: PositiveInt = Field(
        50_000, description="With so many items, texts are searched approximately (usearch); below, exactly."
    )
    split: Split = Field(
        "temporal_user",
        description="Where events are cut to be judged. temporal_user: after the first 80 % of each user's. "
        "temporal_global: at one moment for all, so that nothing learns from what came after a judged event.",
    )
    cold_fraction: float = Field(
        0.2, gt=0, lt=1, description="So many items are hidden from the text tower, and judged as new ones."
    )

    def check(self, place: Workplace) -> None:
        """Read both tables and look at each row."""
        from peftlab.applications.recommend.reading import read_history

        read_history(self, place)

    def prepare(self, place: Workplace) -> Mapping[str, Mapping[str, Any]]:
        """The pairs of the text tower, from training events of items that are not hidden."""
        from peftlab.applications.recommend.pairs import write_pairs

        return {"text": {"data.source": str(write_pairs(self, place))}}

    def build(self, place: Workplace) -> None:
        """Vectors of all items, collaborative factors, and the weights of the ranking."""
        from peftlab.applications.recommend.building import build_index

        build_index(self, place)

    def evaluate(self, place: Workplace) -> Findings:
        """By time; new items apart."""
        from peftlab.applications.recommend.evaluation import evaluate_recommender

        return evaluate_recommender(self, place)

    def open_app(self, place: Workplace, hosting: Hosting) -> ASGIApp:
        """The page and the API."""
        from peftlab.applications.recommend.service import open_service

        return open_service(self, place, hosting)

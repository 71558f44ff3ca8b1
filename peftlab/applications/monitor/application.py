"""The application ``monitor``: its recipe, and where each verb begins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, model_validator

from peftlab.applications.monitor.settings import Destinations, Posts, Retention, Watch
from peftlab.core.application import APPLICATIONS, Application, Hosting, Part, Workplace
from peftlab.core.audit import Findings

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from peftlab.recipe.schema import Recipe


@APPLICATIONS.register("monitor")
class Monitor(Application):
    """Opinion monitoring: topics and sentiment of texts by the hour, and alarms where they surge."""

    needs_packages: ClassVar[Mapping[str, str]] = {"sqlalchemy": "monitor", "fastapi": "monitor"}

    sentiment: Part = Field(description="Tells the sentiment of a text.")
    topic: Part = Field(description="Tells its topic. An adapter of the same base and method: both run in one pass.")
    posts: Posts = Field(description="The labelled texts.")
    watch: Watch = Field(default_factory=lambda: Watch.model_validate({}), description="What raises an alarm.")
    retention: Retention = Field(
        default_factory=lambda: Retention.model_validate({}), description="How long what came in is kept."
    )
    send: Destinations = Field(
        default_factory=lambda: Destinations.model_validate({}), description="Where alarms are sent."
    )

    @model_validator(mode="after")
    def _has_topics(self) -> Monitor:
        if self.posts.topic is None and not self.posts.topic_words:
            raise ValueError("topics are needed: `posts.topic` names their column, or `posts.topic_words` makes them")
        return self

    def check(self, place: Workplace) -> None:
        """Read the table, each of its times, and the words of both label columns."""
        from peftlab.applications.monitor.posts import check_watched, load_posts

        check_watched(self.watch.sentiment, load_posts(self.posts, place, self.seed).train)

    def check_recipes(self, recipes: Mapping[str, Recipe]) -> None:
        """See that both adapters will fit one base."""
        from peftlab.applications.monitor.reader import check_shared

        check_shared(recipes)

    def prepare(self, place: Workplace) -> Mapping[str, Mapping[str, Any]]:
        """Cut the table by time: what comes first is learned from, what comes last is held out."""
        from peftlab.applications.monitor.posts import write_tables

        return write_tables(self, place)

    def build(self, place: Workplace) -> None:
        """See that the adapters fit one base, and count the first hours."""
        from peftlab.applications.monitor.building import build

        build(self, place)

    def evaluate(self, place: Workplace) -> Findings:
        """Both adapters, throughput, and surges found in the held-out days."""
        from peftlab.applications.monitor.evaluation import evaluate

        return evaluate(self, place)

    def open_app(self, place: Workplace, hosting: Hosting) -> ASGIApp:
        """The page, the API, and what works behind them."""
        from peftlab.applications.monitor.site import open_site

        return open_site(self, place, hosting)

    def feed(self, place: Workplace, hosting: Hosting, sources: Sequence[str]) -> Mapping[str, int]:
        """Read texts from tables, ``-`` or ``redis://…``, and store what both adapters say of them."""
        from peftlab.applications.monitor.feeding import feed

        return feed(self, place, hosting, sources)

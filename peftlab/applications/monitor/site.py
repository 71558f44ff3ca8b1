"""The page for people and the API for programs."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Body, FastAPI, HTTPException, Query, Request
from fastapi.responses import PlainTextResponse, Response
from pydantic import BaseModel, Field

from peftlab.applications.monitor import retention, topics, views
from peftlab.applications.monitor.building import open_reader
from peftlab.applications.monitor.intake import FIELDS, LONGEST_NAME, LONGEST_TEXT, read_post
from peftlab.applications.monitor.opening import open_store, open_watcher
from peftlab.applications.monitor.retention import Cleaner
from peftlab.applications.monitor.store import Store
from peftlab.applications.monitor.work import Worker
from peftlab.assembly.database import GREATEST_NUMBER
from peftlab.assembly.site import Pages, build_site
from peftlab.core.application import Hosting, Workplace
from peftlab.figures.svg import FIGURE_STYLE

if TYPE_CHECKING:
    from peftlab.applications.monitor.application import Monitor

HOURS_SHOWN = 7 * 24
MOST_HOURS = 60 * 24
MOST_TEXTS = 500


class GivenText(BaseModel):
    """A text that is to be counted."""

    text: str = Field(min_length=1, max_length=LONGEST_TEXT)
    time: str | float | None = Field(None, description="ISO 8601, or seconds since 1970. null: now.")
    stream: str | None = Field(None, max_length=200, description="Of whom it speaks.")
    id: str | None = Field(
        None, max_length=LONGEST_NAME, description="Its own name: the same text sent twice is counted once."
    )


class Taken(BaseModel):
    """What became of texts: they are stored, and are read in a moment."""

    new: int
    known: int


def open_site(monitor: Monitor, place: Workplace, hosting: Hosting) -> FastAPI:
    """Build the service; its worker runs as long as it does."""
    store = open_store(place, hosting)
    watcher = open_watcher(monitor, place, store)
    cleaner = Cleaner(store, monitor.retention)
    worker = Worker(store, open_reader(place), watcher, monitor.send, place.reporter, cleaner)
    if (receivers := monitor.send.in_words()) is not None:
        place.reporter.say(receivers)
    site = build_site(monitor.name, hosting)
    site.router.lifespan_context = _lifespan(worker)
    _add_api(site, monitor, store, worker)
    _add_pages(site, monitor, store)
    return site


def _lifespan(worker: Worker) -> Any:
    @asynccontextmanager
    async def run(_: FastAPI) -> AsyncIterator[None]:
        worker.start()
        yield
        worker.stop()

    return run


def _add_api(site: FastAPI, monitor: Monitor, store: Store, worker: Worker) -> None:
    watched = monitor.watch.sentiment

    @site.post("/api/texts", status_code=202)
    def take(texts: Annotated[list[GivenText], Body(max_length=MOST_TEXTS, min_length=1)]) -> Taken:
        """Store texts. With the answer they are on disk; one that cannot be taken refuses them all."""
        posts = [
            read_post(
                {key: value for key, value in each.model_dump().items() if value is not None} | _now(each),
                FIELDS, name=f"http:{uuid.uuid4()}", where=f"text {at + 1}",
            )
            for at, each in enumerate(texts)
        ]  # fmt: skip
        new = store.add(posts, [None] * len(posts))
        worker.wake.set()
        return Taken(new=new, known=len(posts) - new)

    @site.get("/api/streams")
    def streams() -> list[str]:
        """All that texts have spoken of."""
        return views.streams(store)

    @site.get("/api/series")
    def series(stream: str, hours: Annotated[int, Query(ge=1, le=MOST_HOURS)] = HOURS_SHOWN) -> dict[str, Any]:
        """Voices of the watched sentiment by topic and hour; `*` is all topics. `start`: hours since 1970."""
        _check_stream(store, stream)
        found = views.series(store, watched, stream, hours)
        return {"stream": stream, "sentiment": watched, "start": found.start, "series": found.values}

    @site.get("/api/alarms")
    def alarms(most: Annotated[int, Query(ge=1, le=500)] = 50) -> list[dict[str, Any]]:
        """The latest alarms."""
        return views.alarms(store, most)

    @site.get("/api/alarms/{number}")
    def alarm(number: int) -> dict[str, Any]:
        """An alarm with its texts, copies folded, and what was sent of it."""
        found = _alarm(store, number)
        return {**found, "texts": views.alarm_texts(store, found, watched), "messages": views.messages(store, number)}

    @site.get("/api/texts")
    def texts(
        stream: str | None = None, topic: str | None = None, sentiment: str | None = None,
        most: Annotated[int, Query(ge=1, le=MOST_TEXTS)] = 50,
    ) -> list[dict[str, Any]]:  # fmt: skip
        """The latest texts."""
        return views.latest_texts(store, stream=stream, topic=topic, sentiment=sentiment, most=most)

    @site.delete("/api/texts", status_code=204)
    def forget(name: Annotated[str, Query(min_length=1, max_length=200)]) -> None:
        """Forget what a text says, such as where its author has deleted it; `id:…` for one that came with an id."""
        if not retention.forget(store, name):
            raise HTTPException(404, "there is no text of this name; /api/texts and /api/refused have their names")

    @site.get("/api/drift")
    def drift(stream: str) -> dict[str, Any] | None:
        """Whether the last seven days speak of other topics than the 28 before; null: too few days."""
        _check_stream(store, stream)
        return topics.drift(store, stream)

    @site.get("/api/proposals")
    def proposals(stream: str) -> list[dict[str, Any]]:
        """New topics: clusters of texts whose topic is unsure, the largest first."""
        _check_stream(store, stream)
        return topics.proposals(store, stream, watched)

    @site.get("/api/refused")
    def refused() -> list[dict[str, Any]]:
        """What came in and could not be taken, with the reason."""
        return views.refused(store)

    @site.get("/metrics", response_class=PlainTextResponse)
    def metrics() -> str:
        """Counts in the format of Prometheus."""
        lines = []
        for name, count in store.counts().items():
            lines += [f"# TYPE peftlab_monitor_{name} gauge", f"peftlab_monitor_{name} {count}"]
        return "\n".join(lines) + "\n"


def _add_pages(site: FastAPI, monitor: Monitor, store: Store) -> None:
    pages = Pages("peftlab.applications.monitor")
    watched = monitor.watch.sentiment

    def panel(request: Request) -> dict[str, Any]:
        names = views.streams(store)
        chosen = _chosen(request, names)
        found = views.series(store, watched, chosen, HOURS_SHOWN)
        return {
            "title": monitor.name, "watched": watched, "streams": names, "chosen": chosen,
            "figure": views.draw_series(found, f"{chosen}: {watched} voices an hour, the last seven days"),
            "alarms": views.alarms(store, 20), "texts": views.latest_texts(store, stream=chosen, most=20),
            "counts": store.counts(),
        }  # fmt: skip

    @site.get("/", include_in_schema=False)
    def page(request: Request) -> Response:
        return pages.show("page.html", **panel(request))

    @site.get("/panel", include_in_schema=False)
    def live(request: Request) -> Response:
        return pages.show("panel.html", **panel(request))

    @site.get("/topics", include_in_schema=False)
    def topics_page(request: Request) -> Response:
        chosen = _chosen(request, views.streams(store))
        return pages.show(
            "topics.html", title=monitor.name, chosen=chosen, drift=topics.drift(store, chosen),
            proposals=topics.proposals(store, chosen, watched)[:10],
        )  # fmt: skip

    @site.get("/alarms/{number}", include_in_schema=False)
    def alarm(number: int) -> Response:
        found = _alarm(store, number)
        return pages.show(
            "alarm.html", title=monitor.name, watched=watched, alarm=found,
            texts=views.alarm_texts(store, found, watched), messages=views.messages(store, number),
        )  # fmt: skip

    @site.get("/monitor.css", include_in_schema=False)
    def style() -> Response:
        own = pages.file("monitor.css")
        return Response(FIGURE_STYLE.encode() + bytes(own.body), media_type=own.media_type)

    @site.get("/monitor.js", include_in_schema=False)
    def script() -> Response:
        return pages.file("monitor.js")


def _chosen(request: Request, names: list[str]) -> str:
    """The stream that a page shows: the one that is asked for, or the first."""
    asked = request.query_params.get("stream", "")
    return asked if asked in names else (names[0] if names else "")


def _now(given: GivenText) -> dict[str, Any]:
    return {} if given.time is not None else {"time": time.time()}


def _check_stream(store: Store, stream: str) -> None:
    """Zeros for a name that is misspelt would look like a quiet stream."""
    if stream not in views.streams(store):
        raise HTTPException(404, "no text has spoken of this stream; /api/streams has their names")


def _alarm(store: Store, number: int) -> dict[str, Any]:
    found = views.alarms(store, number=number) if 0 < number <= GREATEST_NUMBER else []
    if not found:
        raise HTTPException(404, "there is no such alarm")
    return found[0]

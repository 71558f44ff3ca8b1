"""The service of a recommender: a page to try it, events and lists by HTTP, and estimates from what was shown."""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import FastAPI, Query
from fastapi.responses import HTMLResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest
from pydantic import BaseModel, ConfigDict, Field

from peftlab.applications.recommend.counterfactual import Estimate, estimate_normalized, estimate_plain, ratios_of
from peftlab.applications.recommend.reading import CLOCKS_DIFFER, seconds_of
from peftlab.applications.recommend.recommender import Reason, Recommender, Suggestion, Suggestions
from peftlab.applications.recommend.store import Event, Store
from peftlab.assembly.site import Pages, build_site
from peftlab.core.amounts import plural
from peftlab.core.application import Hosting, Workplace
from peftlab.core.errors import UserError

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from peftlab.applications.recommend import Recommend

MOST_EVENTS = 1000
LEAST_LISTS = 30
"""Fewer say nothing."""
LEAST_EFFECTIVE = 50
"""Where fewer lists count, and less than half of them, a few decide: intervals of 95 % held the truth in 17 to 85 %."""


class NewEvent(BaseModel):
    """Somebody chose an item."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)

    id: str | None = Field(None, min_length=1, max_length=64, description="An event that is sent twice counts once.")
    user: str = Field(min_length=1, max_length=200)
    item: str = Field(min_length=1, max_length=200)
    time: float | str | None = Field(None, description="Seconds since 1970, or as in 2026-03-01T12:00:00Z. null: now.")
    list: str | None = Field(None, max_length=64, description="The list that it was chosen from.")


class NewEvents(BaseModel):
    """All are kept, or none."""

    model_config = ConfigDict(extra="forbid")

    events: list[NewEvent] = Field(min_length=1, max_length=MOST_EVENTS)


class Wish(BaseModel):
    """For whom, or for what text."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)

    user: str = Field("", max_length=200)
    text: str = Field("", max_length=2000)
    count: int = Field(10, ge=1, le=50)
    temperature: float | None = Field(
        None, gt=0, le=100, description="Draw the list by chance, so that it can be learned from. null: the best items."
    )
    diversity: float | None = Field(None, ge=0, le=1, description="In place of the recipe's.")
    new: int = Field(0, ge=0, le=50, description="So many items that nobody has chosen, besides.")


class Because(BaseModel):
    """Why an item is there."""

    feature: str
    meaning: str
    worth: float
    items: list[str]


class Item(BaseModel):
    """An item of a list."""

    item: str
    title: str
    text: str
    score: float
    chance: float
    why: list[Because]


class Answer(BaseModel):
    """A list. Events name it."""

    list: str
    user: str
    known: bool
    items: Sequence[Item]
    new: Sequence[Item]


class Worth(BaseModel):
    """Choices a list, with a 95 % interval over users; null where all lists are of one user, or too few count."""

    value: float
    low: float | None
    high: float | None
    effective_lists: float


class Estimates(BaseModel):
    """What lists would have earned under another temperature."""

    temperature: float
    lists: int
    shown: float
    plain: Worth
    normalized: Worth


def open_service(application: Recommend, place: Workplace, hosting: Hosting) -> ASGIApp:
    """The service of a built recommender."""
    return build_service(application.name, Recommender(application, place), Store(hosting.database), hosting)


def build_service(name: str, recommender: Recommender, store: Store, hosting: Hosting) -> FastAPI:
    """Routes over a recommender and its store."""
    site = build_site(name, hosting)
    pages = Pages("peftlab.applications.recommend")
    desk = _Desk(recommender, store)

    @site.post("/api/events")
    def add_events(body: NewEvents) -> dict[str, int]:
        """Keep events: once this has answered, they survive a loss of power."""
        return {"accepted": len(body.events), "new": desk.add(body.events)}

    @site.post("/api/recommend")
    def recommend(wish: Wish) -> Answer:
        """A list for a user, a text, or both."""
        return desk.answer(wish)

    @site.get("/api/estimates")
    def estimates(temperature: Annotated[float, Query(gt=0, le=100)]) -> Estimates:
        """What lists that were drawn would have earned at another temperature."""
        return estimate(store, temperature)

    @site.get("/api/items")
    def items(query: Annotated[str, Query(max_length=200)] = "", count: Annotated[int, Query(ge=1, le=50)] = 20) -> dict[str, Any]:  # fmt: skip  # noqa: E501
        """Items whose titles hold a text."""
        catalogue, wanted = recommender.catalogue, query.casefold()
        found = [at for at, title in enumerate(catalogue.titles) if wanted in title.casefold()][:count]
        return {"items": [{"item": catalogue.ids[at], "title": catalogue.titles[at]} for at in found]}

    @site.get("/metrics", include_in_schema=False)
    def metrics() -> Response:
        return Response(generate_latest(desk.registry), media_type=CONTENT_TYPE_LATEST)

    @site.get("/", include_in_schema=False)
    def page(
        user: Annotated[str, Query(max_length=200)] = "", text: Annotated[str, Query(max_length=2000)] = ""
    ) -> HTMLResponse:
        asked = bool(user.strip() or text.strip())
        wish = Wish(user=user.strip(), text=text.strip(), new=3 if user.strip() else 0)
        answer = desk.answer(wish) if asked else None
        return pages.show(
            "page.html.j2", title=name, wish=wish, answer=answer, counts=store.counts(), examples=desk.examples(),
            catalogue=recommender.catalogue, past=desk.past(wish.user),
        )  # fmt: skip

    for file in ("page.css", "page.js"):
        site.add_api_route(f"/{file}", _sender(pages, file), include_in_schema=False)
    return site


def estimate(store: Store, temperature: float) -> Estimates:
    """What lists that were drawn would have earned at another temperature.

    Raises:
        UserError: Too few lists were drawn, or none that this temperature would draw too.
    """
    logged = store.logged(temperature)
    count = 0 if logged is None else len(logged.rewards)
    if logged is None or count < LEAST_LISTS:
        raise UserError(
            f"only {plural(count, 'list')} drawn so far; {LEAST_LISTS} are needed",
            hint="Ask /api/recommend with a temperature, and send the events with the name of the list.",
        )
    weights = ratios_of(logged.old, logged.new)
    if not weights.any(axis=0).all():
        raise UserError(
            f"at the temperature {temperature:g} none of the {count} lists would have been drawn",
            hint="Ask for one that is nearer to the temperature of the lists.",
        )
    return Estimates(
        temperature=temperature,
        lists=count,
        shown=float(logged.rewards.sum(axis=1).mean()),
        plain=_worth(estimate_plain(weights, logged.rewards, logged.users)),
        normalized=_worth(estimate_normalized(weights, logged.rewards, logged.users)),
    )


class _Desk:
    """Answers, and logs what it has answered."""

    def __init__(self, recommender: Recommender, store: Store) -> None:
        self._recommender, self._store = recommender, store
        self.registry = CollectorRegistry()
        self._events = Counter("recommend_events", "Events that were kept.", registry=self.registry)
        self._lists = Counter("recommend_lists", "Lists that were shown.", ["drawn"], registry=self.registry)
        self._seconds = Histogram("recommend_seconds", "Seconds for a list.", registry=self.registry)

    def add(self, given: list[NewEvent]) -> int:
        """Keep events, all or none."""
        events = [self._checked(row, event) for row, event in enumerate(given)]
        new = self._store.add(events)
        self._events.inc(new)
        return new

    def _checked(self, row: int, given: NewEvent) -> Event:
        now = time.time()
        moment = now if given.time is None else seconds_of(given.time)
        if given.item not in self._recommender.catalogue.positions:
            raise UserError(f"events.{row}.item: the item {given.item!r:.60} is not in the catalogue; none was kept")
        if moment is None:
            raise UserError(f"events.{row}.time: the time {given.time!r:.60} cannot be read; none was kept")
        if moment > now + CLOCKS_DIFFER:
            raise UserError(f"events.{row}.time: the time {given.time!r:.60} lies in the future; none was kept")
        if given.list is not None and not self._store.has_list(given.list):
            raise UserError(f"events.{row}.list: no list {given.list!r:.70} was shown; none was kept")
        return Event(given.id or uuid.uuid4().hex, given.user, given.item, moment, given.list)

    def past(self, user: str) -> list[str]:
        """Titles of what a user chose, the last first."""
        titles = self._recommender.catalogue.titles
        return [titles[at] for at in self._history(user)[::-1][:30]] if user else []

    def examples(self) -> list[str]:
        """Some users, to try."""
        return list(self._recommender.history.users[:5])

    def _history(self, user: str) -> Any:
        return self._recommender.history_of(user, self._store.items_of(user))

    def answer(self, wish: Wish) -> Answer:
        """A list, logged before it is shown."""
        if not wish.user and not wish.text:
            raise UserError("there is neither a user nor a text")
        with self._seconds.time():
            history = self._history(wish.user) if wish.user else self._recommender.history_of("")
            passed = self._recommender.passed_of(wish.user)
            found = self._recommender.suggest(
                history, passed=passed, text=wish.text, count=wish.count,
                temperature=wish.temperature, diversity=wish.diversity,
            )  # fmt: skip
            new = self._recommender.suggest_new(history, wish.new, passed) if wish.new else []
            name = self._log(wish, found)
        self._lists.labels("yes" if wish.temperature else "no").inc()
        items, others = [self._item(each) for each in found.items], [self._item(each) for each in new]
        return Answer(list=name, user=wish.user, known=len(history) > 0, items=items, new=others)

    def _log(self, wish: Wish, found: Suggestions) -> str:
        ids = self._recommender.catalogue.ids
        pool = [(ids[item], score) for item, score in found.pool] if wish.temperature else []
        shown = [(ids[each.item], each.chance) for each in found.items]
        return self._store.show(wish.user, wish.temperature, pool, shown)

    def _item(self, found: Suggestion) -> Item:
        catalogue = self._recommender.catalogue
        return Item(
            item=catalogue.ids[found.item],
            title=catalogue.titles[found.item],
            text=catalogue.texts[found.item].removeprefix(catalogue.titles[found.item]).lstrip(". "),
            score=round(found.score, 4),
            chance=found.chance,
            why=[self._because(each) for each in found.reasons],
        )

    def _because(self, reason: Reason) -> Because:
        titles = [self._recommender.catalogue.titles[at] for at in reason.because]
        return Because(feature=reason.feature, meaning=reason.meaning, worth=round(reason.worth, 4), items=titles)


def _worth(found: Estimate) -> Worth:
    few = found.effective < min(LEAST_EFFECTIVE, found.lists / 2)
    low, high = (None if few or math.isinf(each) else each for each in (found.low, found.high))
    return Worth(value=found.value, low=low, high=high, effective_lists=found.effective)


def _sender(pages: Pages, file: str) -> Any:
    def send() -> Response:
        return pages.file(file)

    return send

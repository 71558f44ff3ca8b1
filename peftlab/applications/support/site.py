"""The service: a chat for customers, a desk for agents, and the API under both.

Customers' routes are open to everybody; the desk asks for the token where there is one. A customer sees only the
conversation whose secret the browser's cookie holds. Texts are never put into a log.
"""

from __future__ import annotations

import csv
import io
import json
import re
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import FastAPI, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from prometheus_client import generate_latest
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from peftlab.applications.support.answering import Responder
from peftlab.applications.support.corrections import EXPORTED
from peftlab.applications.support.desk import Desk
from peftlab.applications.support.storage import AnsweredMeanwhileError, NoSuchConversationError, Session, Storage
from peftlab.assembly.database import GREATEST_NUMBER
from peftlab.assembly.site import Pages, build_site
from peftlab.core.application import Hosting, Workplace
from peftlab.tasks.text_inputs import is_blank

if TYPE_CHECKING:
    from peftlab.applications.support import Support

COOKIE = "peftlab_conversation"
PUBLIC = ("/", "/static/", "/api/chat")
MOST_CHARACTERS, LATEST = 2000, 20
_CELLS = re.compile(r"^(?=[=+\-@\t\r\n＝＋－＠])|(?<=[\t\r\n;])(?=[=+\-@＝＋－＠])")
"""Before what spreadsheets compute; some take the wide forms for the same. One that cuts cells at semicolons or tabs
keeps no cell of ours whole, and takes one to begin behind each of those marks and each end of a line."""


def _shown(text: str) -> str:
    if is_blank(text):
        raise ValueError("the text shows nothing")
    return text.replace("\0", " ")  # which PostgreSQL does not take


Said = Annotated[str, AfterValidator(_shown)]
"""A table with a text that shows nothing is not read: such a correction would keep all others from being learned."""


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Message(_Body):
    """What a customer says."""

    text: Said = Field(min_length=1, max_length=MOST_CHARACTERS)
    key: str = Field(
        min_length=8,
        max_length=64,
        pattern=r"^\S+$",
        description="The sender's own name for it, without blanks: sent twice, stored once.",
    )
    about: int | None = Field(
        None, ge=0, le=GREATEST_NUMBER, description="The id of the answer that this is said of; null: the last one."
    )


class Rating(_Body):
    """What a customer says of an answer."""

    helped: bool


class AgentReply(_Body):
    """An agent's answer."""

    text: Said = Field(min_length=1, max_length=10 * MOST_CHARACTERS)
    entry: str | None = Field(None, description="The id of the entry that answers.")
    was_wrong: bool = Field(False, description="Whether the answer that was given without a person is wrong.")
    seen: int | None = Field(
        None, ge=0, le=GREATEST_NUMBER, description="The id of the last message that the agent has seen; null: all."
    )


def open_site(support: Support, place: Workplace, hosting: Hosting) -> FastAPI:
    """Load all parts, open the database, and make the routes."""
    storage = Storage(hosting.database)
    desk = Desk(Responder.load(support, place), storage, place.reporter)
    app = build_site(support.name, hosting, max_body_bytes=100_000, public=PUBLIC)
    _customers(app, desk)
    _agents(app, desk)
    _pages(app, desk, support.name)
    return app


def _pages(app: FastAPI, desk: Desk, name: str) -> None:
    pages = Pages("peftlab.applications.support")

    @app.get("/", include_in_schema=False)
    def chat() -> HTMLResponse:
        return pages.show("chat.html", name=name, most=MOST_CHARACTERS)

    @app.get("/desk", include_in_schema=False)
    def agents() -> HTMLResponse:
        return pages.show("desk.html", name=name, most=10 * MOST_CHARACTERS, entries=desk.responder.company.entries)

    @app.get("/static/{file}", include_in_schema=False)
    def static(file: str) -> Response:
        if file not in ("style.css", "chat.js", "desk.js"):
            raise HTTPException(404, "there is no such file")
        return pages.file(file)

    @app.get("/metrics", include_in_schema=False)
    def metrics() -> Response:
        return Response(generate_latest(desk.metrics.registry), media_type="text/plain; version=0.0.4")


def _customers(app: FastAPI, desk: Desk) -> None:
    storage = desk.storage

    def session_of(request: Request) -> Session | None:
        return storage.find(request.cookies.get(COOKIE, ""))

    @app.get("/api/chat")
    def read(request: Request, after: Annotated[int, Query(ge=0, le=GREATEST_NUMBER)] = 0) -> dict[str, Any]:
        """The last messages of the customer's own conversation; those after a message, where its id is given."""
        session = session_of(request)
        rows = storage.messages(session.id, after) if session is not None else ()
        return {"messages": [desk.shown(row) for row in rows]}

    @app.post("/api/chat/messages")
    async def send(body: Message, request: Request) -> StreamingResponse:
        """Say something. The answer is a stream of JSON objects, one a line: accepted, writing, sentence…, answer."""
        session = await run_in_threadpool(lambda: session_of(request) or storage.start())
        events = await desk.stream(session, body.key, body.text, body.about)
        answer = StreamingResponse(
            (json.dumps(event, ensure_ascii=False) + "\n" async for event in events),
            media_type="application/x-ndjson",
            headers={"X-Accel-Buffering": "no"},  # a proxy passes each line on as it comes
        )
        is_safe = request.url.scheme == "https"
        answer.set_cookie(COOKIE, session.cookie, httponly=True, samesite="strict", secure=is_safe, max_age=30 * 86400)
        return answer

    @app.post("/api/chat/answers/{number}")
    def rate(number: int, body: Rating, request: Request) -> dict[str, bool]:
        """Say whether an answer helped."""
        session = session_of(request)
        if session is None or not 0 < number <= GREATEST_NUMBER:
            raise HTTPException(404, "there is no conversation, or no such answer in it")
        try:
            storage.rate(session.id, number, helped=body.helped)
        except NoSuchConversationError as error:
            raise HTTPException(404, error.message) from None
        return {"kept": True}

    @app.post("/api/chat/new")
    def new() -> JSONResponse:
        """Leave the conversation; agents still see it."""
        answer = JSONResponse({"left": True})
        answer.delete_cookie(COOKIE, httponly=True, samesite="strict")
        return answer


def _agents(app: FastAPI, desk: Desk) -> None:
    storage, responder = desk.storage, desk.responder

    @app.get("/api/desk")
    def overview() -> dict[str, Any]:
        """The queue, the latest conversations, and figures."""
        found = storage.overview
        return {"queue": found.queue(), "latest": found.latest(LATEST), "figures": found.figures()}

    @app.get("/api/desk/conversations/{name}")
    def conversation(name: str) -> dict[str, Any]:
        """A conversation, with suggested answers."""
        found = _found(storage, name)
        rows = storage.messages(name)
        question = next((row.question for row in reversed(rows) if row.question), None)
        question = question or next((row.text for row in reversed(rows)), "")
        candidates = responder.find(question).candidates if question else ()
        return {
            "summary": found.summary,
            "messages": [desk.shown(row) for row in rows],
            "candidates": [
                {"id": each.entry.id, "question": each.entry.question, "answer": each.entry.answer}
                for each in candidates
            ],
            "past": [{"question": each.text, "answer": each.reply} for each in responder.past_answers(question)],
        }

    @app.post("/api/desk/conversations/{name}/reply")
    def reply(name: str, body: AgentReply) -> dict[str, int]:
        """Answer as a person."""
        known = {entry.id for entry in responder.company.entries}
        if body.entry is not None and body.entry not in known:
            raise HTTPException(422, "there is no such entry in the FAQ")
        _found(storage, name)
        try:
            given = storage.reply(name, body.text, body.entry, was_wrong=body.was_wrong, seen=body.seen)
        except AnsweredMeanwhileError as error:
            raise HTTPException(409, error.message) from None
        number, is_correction = given
        if is_correction:
            desk.metrics.corrections.inc()
        return {"id": number}

    @app.get("/api/desk/training.csv")
    def training() -> Response:
        """What agents answered, as a table of dialogues to learn from."""
        text = io.StringIO()
        writer = csv.DictWriter(text, EXPORTED, lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: _cell(value) for key, value in row.items()} for row in storage.training_rows())
        return Response(
            text.getvalue(),
            media_type="text/csv",
            headers={"Content-Disposition": 'attachment; filename="corrections.csv"'},
        )


def _found(storage: Storage, name: str) -> Any:
    try:
        return storage.conversation(name)
    except NoSuchConversationError as error:
        raise HTTPException(404, error.message) from None


def _cell(text: str) -> str:
    """A blank before what a spreadsheet would compute; reading the table takes away the one at the start."""
    return _CELLS.sub(" ", text)

"""The routes of the board that show runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request
from fastapi.responses import HTMLResponse, StreamingResponse
from markupsafe import Markup
from starlette.exceptions import HTTPException

from peftlab.board import contents
from peftlab.board.actions import Actions, routes_of
from peftlab.board.jobs import Jobs
from peftlab.board.pages import Pages
from peftlab.board.runs import RunIndex
from peftlab.board.trial import Trial
from peftlab.board.visitors import Visitors
from peftlab.core.errors import UserError
from peftlab.core.page_safety import STRICT_POLICY, page_headers
from peftlab.core.record import read_record

PAGE = 100
"""Runs on a page of the list."""
SORTED_BY = ("sign", "name", "task", "method", "status", "score", "seconds")
OF_REPORTS = STRICT_POLICY.replace(
    "style-src 'self'; script-src 'self'", "style-src 'unsafe-inline'; script-src 'unsafe-inline'"
)
"""A report brings its style and its script along; all that it says of runs is escaped."""
FOLLOW_SECONDS = 1.0


def build_board(
    root: Path,
    *,
    token: str | None = None,
    token_to_look: bool = True,
    only_loopback: bool = True,
    jobs: Jobs | None = None,
    trial: Trial | None = None,
) -> FastAPI:
    """The whole application.

    Args:
        root: The folder whose runs are shown.
        token: That a visitor brings once as ``/?token=…``; None: everybody may look, and nobody may act.
        token_to_look: Whether it is needed for looking, and not for acting alone.
        only_loopback: Answer only to the names of this machine: pages of other sites must not reach it by a name
            that they let point here.
        jobs: Starts runs; None: as `peftlab run` does without options.
        trial: Asks runs; None: on the device that there is.

    Raises:
        UserError: There is no such folder.
    """
    index, pages = RunIndex(root), Pages()
    visitors = Visitors(token, to_look=token_to_look and token is not None)
    actions = Actions(index, visitors, jobs or Jobs(index.root), trial or Trial())
    app = FastAPI(title="peftlab board", docs_url=None, redoc_url=None, openapi_url=None)
    _add_list(app, index, pages, visitors)
    _add_run(app, actions, pages)
    _add_comparison(app, index)
    pages.add_to(app, visitors, hint="Open /?token=TOKEN once.", only_loopback=only_loopback)

    return app


def _add_list(app: FastAPI, index: RunIndex, pages: Pages, visitors: Visitors) -> None:
    @app.get("/")
    def runs(
        request: Request,
        q: Annotated[str, Query(max_length=200)] = "",
        sort: str = "sign",
        page: Annotated[int, Query(ge=1)] = 1,
    ) -> HTMLResponse:
        keys = index.keys()
        sort = sort if sort in SORTED_BY else "sign"
        if q or sort != "sign":
            rows = [row for key, _ in keys if (row := index.row(key)).matches(q)]
            if sort == "score":
                rows.sort(key=lambda row: row.place)
            elif sort == "seconds":
                rows.sort(key=lambda row: (row.seconds is None, -(row.seconds or 0)))
            elif sort != "sign":
                rows.sort(key=lambda row: str(getattr(row, sort)))
            total, part = len(rows), rows[(page - 1) * PAGE : page * PAGE]
        else:  # only those that are shown are read
            total, part = len(keys), [index.row(key) for key, _ in keys[(page - 1) * PAGE : page * PAGE]]
        return pages.show(
            "runs.html.j2", rows=part, total=total, q=q, sort=sort, page=page, pages=max(1, -(-total // PAGE)),
            root=str(index.root), may_act=visitors.have_token(request),
        )  # fmt: skip


def _add_run(app: FastAPI, actions: Actions, pages: Pages) -> None:
    index = actions.index

    def folder_of(key: str) -> Path:
        folder = index.folder(key)
        if folder is None:
            raise HTTPException(404, f"there is no run {key}")
        return folder

    def values(key: str) -> dict[str, Any]:
        folder, lines = folder_of(key), contents.read_lines(folder_of(key))
        row = index.row(key)
        return {
            "row": row,
            "progress": contents.read_progress(lines),
            "figures": contents.figures(lines),
            "record": read_record(folder) if row.status not in ("going", "stopped", "unreadable") else None,
        }

    def show(
        key: str, request: Request, *, split: str | None = None, page: int = 1, status: int = 200, **others: Any
    ) -> HTMLResponse:
        found = values(key)
        settings = list(contents.flat(found["record"].recipe)) if found["record"] is not None else []
        damage, predictions = "", None
        try:
            predictions = contents.read_predictions(folder_of(key), split, page)
        except UserError as error:  # the rest of the run can be looked at
            damage = error.message
        offered = actions.offers(found["row"], request) | others
        return pages.show(
            "run.html.j2", status, **found, settings=settings, predictions=predictions, damage=damage, **offered
        )

    @app.get("/run/{key:path}/progress")
    def progress(key: str) -> HTMLResponse:
        return pages.show("progress.html.j2", **values(key))

    @app.get("/run/{key:path}/events")
    async def events(key: str, request: Request) -> StreamingResponse:
        folder_of(key)
        return StreamingResponse(_follow(index, key, request), media_type="text/event-stream", headers=page_headers())

    @app.get("/run/{key:path}")
    def run(
        key: str, request: Request, split: str | None = None, page: Annotated[int, Query(ge=1)] = 1
    ) -> HTMLResponse:
        return show(key, request, split=split, page=page)

    app.include_router(routes_of(actions, pages.show, show))


async def _follow(index: RunIndex, key: str, request: Request) -> AsyncIterator[str]:
    """An event whenever a run has written something; the last says that it has ended."""
    seen = None
    while not await request.is_disconnected():
        row = await asyncio.to_thread(index.row, key)
        if row.sign != seen:
            seen = row.sign
            yield f"event: changed\ndata: {row.status}\n\n"
        if row.status != "going":
            yield f"event: ended\ndata: {row.status}\n\n"
            return
        await asyncio.sleep(FOLLOW_SECONDS)


def _add_comparison(app: FastAPI, index: RunIndex) -> None:
    @app.get("/compare")
    def compare(run: Annotated[list[str] | None, Query()] = None) -> HTMLResponse:
        from peftlab.report.document import build_report
        from peftlab.report.page import render_html

        chosen = list(dict.fromkeys(run or []))
        folders = [folder for key in chosen if (folder := index.folder(key)) is not None]
        if len(folders) < 2:
            raise UserError("two runs at least are needed", hint="Tick them in the list, and choose Compare.")
        page = render_html(build_report(folders, base=index.root))
        return HTMLResponse(Markup(page), headers=page_headers(OF_REPORTS))  # noqa: S704 - the report escapes what it shows

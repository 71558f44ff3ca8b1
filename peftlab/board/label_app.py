"""The page on which rows get their labels: by keys, one row after the other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.responses import HTMLResponse, RedirectResponse
from starlette.exceptions import HTTPException

from peftlab.board.label_table import LabelTable
from peftlab.board.pages import Pages
from peftlab.board.visitors import Sent, Visitors

DIGITS = 9
"""Classes that have a key of their own; the others are found by their names."""


def build_label_app(table: LabelTable, *, token: str, only_loopback: bool = True) -> FastAPI:
    """The whole application.

    Args:
        table: The rows.
        token: That a visitor brings once as ``/?token=…``.
        only_loopback: Answer only to the names of this machine.
    """
    pages, visitors = Pages("label", "label_problem.html.j2"), Visitors(token, to_look=True)
    app = FastAPI(title="peftlab label", docs_url=None, redoc_url=None, openapi_url=None)
    _add_pages(app, table, pages)
    pages.add_to(app, visitors, hint="Open the address that `peftlab label` has printed.", only_loopback=only_loopback)
    return app


def _add_pages(app: FastAPI, table: LabelTable, pages: Pages) -> None:
    question = table.question

    def place_of(at: int) -> int:
        if not 0 <= at < len(table):
            raise HTTPException(404, f"there is no row {at + 1}")
        return at

    def shown(**values: Any) -> dict[str, Any]:
        return {"question": question, "done": table.done, "total": len(table), "can_undo": table.can_undo, **values}

    def onward(at: int) -> RedirectResponse:
        found = table.next_after(at)
        return RedirectResponse("/done" if found is None else f"/row/{found + 1}", 303)

    @app.get("/")
    def start() -> RedirectResponse:
        return onward(-1)

    @app.get("/done")
    def done() -> HTMLResponse:
        folder = Path.cwd()
        output = table.output.resolve()
        told = output.relative_to(folder) if output.is_relative_to(folder) else output
        return pages.show("label_done.html.j2", **shown(counts=table.counts(), output=str(told)))

    @app.get("/row/{number}")
    def row(number: int) -> HTMLResponse:
        at = place_of(number - 1)
        own = table.rows[at]
        texts = list(zip(question.text_columns, table.texts(own), strict=True))
        reason = own.get("select_reason") or ""
        return pages.show(
            "label_row.html.j2", **shown(at=at, texts=texts, answer=table.answer_of(at), reason=reason, digits=DIGITS)
        )

    @app.post("/row/{number}")
    def answer(number: int, sent: Sent) -> RedirectResponse:
        at = place_of(number - 1)
        if question.several:
            chosen = [name for place, name in enumerate(question.names) if f"c{place}" in sent]
        else:
            named = {str(place): name for place, name in enumerate(question.names)}
            if (name := named.get(sent.get("label", ""))) is None:
                raise HTTPException(400, "there is no such class")
            chosen = [name]
        table.answer(at, chosen)
        return onward(at)

    @app.post("/undo")
    def undo(sent: Sent) -> RedirectResponse:
        at = table.undo()
        return RedirectResponse("/" if at is None else f"/row/{at + 1}", 303)

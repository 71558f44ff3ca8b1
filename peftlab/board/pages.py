"""What the board and the labelling page share: templates, a style and a script, and the page of a problem."""

from __future__ import annotations

from typing import Any

import jinja2
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, Response
from starlette.exceptions import HTTPException

from peftlab.board.visitors import Visitors
from peftlab.core.errors import PeftlabError
from peftlab.core.page_safety import page_headers
from peftlab.core.wrong_request import say_what_is_wrong
from peftlab.figures.svg import FIGURE_STYLE
from peftlab.report import wording


class Pages:
    """The templates, and what all of them are given.

    Args:
        files: How the style and the script of the pages are called.
        problem: The template of the page that tells a problem.
    """

    def __init__(self, files: str = "board", problem: str = "problem.html.j2") -> None:
        loader = jinja2.PackageLoader("peftlab.board")
        self._templates = jinja2.Environment(
            loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
        )
        self._templates.filters |= {"score": wording.score, "seconds": wording.seconds}
        self._files, self._problem = files, problem
        self._style = FIGURE_STYLE + self._own(loader, f"{files}.css")
        self._script = self._own(loader, f"{files}.js")

    def _own(self, loader: jinja2.BaseLoader, name: str) -> str:
        return loader.get_source(self._templates, name)[0]

    def show(self, name: str, status: int = 200, **values: Any) -> HTMLResponse:
        """A page."""
        text = self._templates.get_template(name).render(**values)
        return HTMLResponse(text, status, headers=page_headers())

    def add_to(self, app: FastAPI, visitors: Visitors, *, hint: str, only_loopback: bool) -> None:
        """Give an application its files and the page of a problem, and let nobody in who may not look.

        Args:
            app: Whose every route is guarded.
            visitors: Who may look, and who may act.
            hint: For those who have no token.
            only_loopback: Answer only to the names of this machine.
        """
        app.state.visitors = visitors
        self._add_file(app, "css", "text/css", self._style)
        self._add_file(app, "js", "text/javascript", self._script)
        app.get("/favicon.ico")(lambda: Response(status_code=204))  # browsers ask for one by themselves

        def tell(status: int, problem: str, hint: str) -> HTMLResponse:
            return self.show(self._problem, status, problem=problem, hint=hint)

        async def tell_error(_: Request, error: Exception) -> HTMLResponse:
            return tell(*_in_words(error))

        for kind in (HTTPException, RequestValidationError, PeftlabError, Exception):
            app.add_exception_handler(kind, tell_error)
        visitors.guard(app, tell, hint=hint, only_loopback=only_loopback)

    def _add_file(self, app: FastAPI, ending: str, kind: str, text: str) -> None:
        headers = {"X-Content-Type-Options": "nosniff"}
        app.get(f"/{self._files}.{ending}")(lambda: Response(text, media_type=kind, headers=headers))


def _in_words(error: Exception) -> tuple[int, str, str]:
    """The status of an error, and what a visitor is told: the problem, and what to do."""
    if isinstance(error, HTTPException):
        return error.status_code, str(error.detail), ""
    if isinstance(error, RequestValidationError):  # such as /row/one or ?page=0, typed into the address
        problems = error.errors()
        if problems[0]["loc"][0] == "path":
            return 404, "there is no such page", ""
        return 422, say_what_is_wrong("", problems)[0], ""
    if isinstance(error, PeftlabError):
        place = f"{error.where}: " if error.where else ""
        return 422, place + error.message, error.hint or ""
    return 500, f"the page has a fault: {type(error).__name__}", ""

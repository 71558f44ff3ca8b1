"""What every page and API of an application stands behind: token, names of the machine, size of bodies, headers.

Texts come from strangers: templates escape them, and the page's policy lets no script run but the application's own.
"""

from __future__ import annotations

from typing import Any

import jinja2
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from peftlab.assembly.database import StorageError
from peftlab.core.application import Hosting
from peftlab.core.errors import PeftlabError
from peftlab.core.page_safety import (
    ASK_BY_LOOPBACK,
    cookie_of,
    is_from_elsewhere,
    is_token,
    page_headers,
    wrong_name,
)
from peftlab.core.wrong_request import say_no_route, say_what_is_wrong

ALL_ROUTES = "/openapi.json describes all routes."
HEADERS = page_headers()
OPEN_ROUTES = frozenset({"/healthz"})
MAX_BODY_BYTES = 1_000_000
TYPES = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}


class Pages:
    """The templates of a package, in its folder ``templates/``.

    Args:
        package: Its dotted name.
    """

    def __init__(self, package: str) -> None:
        self._loader = jinja2.PackageLoader(package)
        self.templates = jinja2.Environment(
            loader=self._loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
        )

    def show(self, name: str, /, status: int = 200, **values: Any) -> HTMLResponse:
        """A page."""
        return HTMLResponse(self.templates.get_template(name).render(**values), status)

    def file(self, name: str) -> Response:
        """A style sheet or script, as it is."""
        text = self._loader.get_source(self.templates, name)[0]
        return Response(text, media_type=TYPES[name.rpartition(".")[2]])


def build_site(
    title: str, hosting: Hosting, *, max_body_bytes: int = MAX_BODY_BYTES, public: tuple[str, ...] = ()
) -> FastAPI:
    """An application of FastAPI with everything that stands before the routes. OpenAPI is at ``/openapi.json``.

    Args:
        title: The application's name.
        hosting: Token and names.
        max_body_bytes: Of a request.
        public: Beginnings of paths that are open to everybody, token or not; ``/`` stands for itself alone.
    """
    app = FastAPI(title=title, docs_url=None, redoc_url=None)

    @app.get("/healthz", include_in_schema=False)
    async def health() -> dict[str, str]:  # so that it waits for no thread
        return {"status": "ok"}

    for kind, status in ((HTTPException, 0), (StorageError, 503), (PeftlabError, 422), (Exception, 500)):
        app.add_exception_handler(kind, _problem(status))
    app.add_exception_handler(RequestValidationError, _wrong_request)
    app.add_middleware(_Guard, hosting=hosting, max_body_bytes=max_body_bytes, public=public)
    return app


def _problem(status: int) -> Any:
    async def answer(request: Request, error: Exception) -> JSONResponse:
        if isinstance(error, HTTPException) and ("route" not in request.scope or error.status_code == 405):
            message = say_no_route(request.method, request.url.path, error.status_code)
            return JSONResponse({"error": message, "hint": ALL_ROUTES}, error.status_code, headers=error.headers)
        if isinstance(error, HTTPException):
            return JSONResponse({"error": str(error.detail)}, error.status_code, headers=error.headers)
        if isinstance(error, PeftlabError):
            return JSONResponse({"error": error.message, "hint": error.hint or ""}, status)
        return JSONResponse({"error": f"the application has a fault: {type(error).__name__}"}, status)

    return answer


async def _wrong_request(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for this class
    message, hint = say_what_is_wrong(request.headers.get("content-type", ""), error.errors())
    return JSONResponse({"error": message, "hint": hint or ALL_ROUTES}, 422)


class _Guard:
    """Stands before all routes."""

    def __init__(self, app: ASGIApp, *, hosting: Hosting, max_body_bytes: int, public: tuple[str, ...]) -> None:
        self._app, self._token, self._most, self._public = app, hosting.token, max_body_bytes, public
        self._only_loopback = hosting.only_loopback

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                known = {name.lower() for name, _ in message["headers"]}
                message["headers"] = [
                    *message["headers"],
                    *((key.lower().encode(), value.encode()) for key, value in HEADERS.items()
                      if key.lower().encode() not in known),
                ]  # fmt: skip
            await send(message)

        refusal = self._refuse(request)
        if refusal is not None:
            await refusal(scope, receive, send_with_headers)
            return
        await self._app(scope, self._limited(receive), send_with_headers)

    def _refuse(self, request: Request) -> Response | None:
        if self._only_loopback and (wrong := wrong_name(request)) is not None:
            return JSONResponse({"error": wrong, "hint": ASK_BY_LOOPBACK}, 400)
        length = request.headers.get("content-length", "")
        if length.isdigit() and int(length) > self._most:
            return JSONResponse({"error": f"the body is larger than {self._most} bytes"}, 413)
        if request.method not in ("GET", "HEAD") and is_from_elsewhere(request):
            return JSONResponse({"error": "pages of other sites may not do this"}, 403)
        if self._token is None or self._is_public(request.url.path):
            return None
        given = request.query_params.get("token", "")
        if request.method == "GET" and is_token(given, self._token):
            # The token leaves the address, which a browser keeps and shows.
            answer = RedirectResponse(request.url.path, 303)
            answer.set_cookie(cookie_of(request, "app"), given, httponly=True, samesite="strict")
            return answer
        bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
        if any(is_token(each, self._token) for each in (bearer, request.cookies.get(cookie_of(request, "app"), ""))):
            return None
        return JSONResponse({"error": "a token is needed", "hint": "Open /?token=TOKEN once."}, 401)

    def _is_public(self, path: str) -> bool:
        return path in OPEN_ROUTES or any(
            path == each if each == "/" else path.startswith(each) for each in self._public
        )

    def _limited(self, receive: Receive) -> Receive:
        seen = 0

        async def limited() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self._most:
                raise HTTPException(413, f"the body is larger than {self._most} bytes")
            return message

        return limited

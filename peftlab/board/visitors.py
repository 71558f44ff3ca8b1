"""Who may look, who may act, and that no page of another site acts in their place."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any
from urllib.parse import parse_qsl, urlsplit

from fastapi import Depends, FastAPI, Request
from fastapi.responses import RedirectResponse, Response
from starlette.exceptions import HTTPException

from peftlab.core.page_safety import ASK_BY_LOOPBACK, cookie_of, is_token, wrong_name

MOST_BYTES = 1 << 18
"""Of what a form sends."""
MOST_FIELDS = 2000


class Visitors:
    """Tells those who have brought the token from others.

    A visitor brings it once, as ``/?token=…``; the browser keeps it in a cookie that no page of another site can send.

    Args:
        token: The token; None: nobody may act.
        to_look: Whether the pages, too, are only for those who have brought it.
    """

    def __init__(self, token: str | None, *, to_look: bool) -> None:
        self._token, self._to_look = token, to_look

    def have_token(self, request: Request) -> bool:
        """Whether this one has brought it."""
        return is_token(request.cookies.get(cookie_of(request, "board"), ""), self._token)

    def check_acting(self, request: Request) -> None:
        """See that a request that changes something comes from the board's own page, and from one who may.

        Raises:
            HTTPException: It does not.
        """
        if not self.have_token(request):
            raise HTTPException(403, "only who has opened the address that `peftlab board` printed may do this")
        if not _is_own_page(request):
            raise HTTPException(403, "this was sent by a page of another site")

    def guard(
        self, app: FastAPI, refuse: Callable[[int, str, str], Response], *, hint: str, only_loopback: bool
    ) -> None:
        """Take the token from the address, and turn those away who may not look.

        Args:
            app: Whose every route is guarded.
            refuse: The page for those who are turned away: of a status, a problem and a hint.
            hint: For those who have no token.
            only_loopback: Answer only to the names of this machine.
        """

        @app.middleware("http")
        async def ask(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
            if only_loopback and (wrong := wrong_name(request)) is not None:
                return refuse(400, wrong, ASK_BY_LOOPBACK)
            if is_token(request.query_params.get("token", ""), self._token):
                # The token leaves the address, which a browser keeps and shows.
                answer: Response = RedirectResponse("/", 303)
                answer.set_cookie(cookie_of(request, "board"), self._token or "", httponly=True, samesite="strict")
                return answer
            if self._to_look and not self.have_token(request):
                return refuse(401, "a token is needed", hint)
            return await call_next(request)


def _is_own_page(request: Request) -> bool:
    """Whether the page that sends a request is the board's own.

    Browsers say so themselves; those that do not tell at least the address of the page.
    """
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    origin = urlsplit(request.headers.get("origin", ""))
    return bool(origin.netloc) and origin.netloc == request.headers.get("host")


async def read_form(request: Request) -> dict[str, str]:
    """What a form has sent; of several values of a name the last.

    Raises:
        HTTPException: It is too large, or no form.
    """
    if request.headers.get("content-type", "").split(";")[0].strip() != "application/x-www-form-urlencoded":
        raise HTTPException(415, "a form is needed")
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > MOST_BYTES:
            raise HTTPException(413, f"a form of more than {MOST_BYTES >> 10} KB is not read")
    try:
        pairs: list[Any] = parse_qsl(
            body.decode("ascii"), keep_blank_values=True, strict_parsing=bool(body), max_num_fields=MOST_FIELDS,
            errors="strict",
        )  # fmt: skip
    except ValueError:
        raise HTTPException(400, "this is no form") from None
    return {name: value.replace("\r\n", "\n") for name, value in pairs}


async def _sent(request: Request) -> dict[str, str]:
    request.app.state.visitors.check_acting(request)
    return await read_form(request)


Sent = Annotated[dict[str, str], Depends(_sent)]
"""A form, from the board's own page and from one who may act."""

"""What stands before the routes: the token, the size of the body, the time it takes to arrive, and the log.

Without a token the service answers on this machine alone. But a browser there shows pages of other sites, which may
send what they like to it. So requests of such pages are refused, and so is every name that is not this machine's: a
site could let its own name point here, and then read the answers too.
"""

from __future__ import annotations

import asyncio
import hmac
import time
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from peftlab.core.address import TOKEN_VARIABLE
from peftlab.core.page_safety import is_from_elsewhere, wrong_name
from peftlab.serving.problems import problem
from peftlab.serving.serving_config import ServingConfig
from peftlab.serving.telemetry import Telemetry

OPEN_ROUTES = frozenset({"/healthz"})
ANY_NAME = f"Ask by 127.0.0.1 or localhost, or start the service with a token in {TOKEN_VARIABLE}."


class Gate:
    """An ASGI application around another.

    Args:
        app: The routes.
        config: Token and limits.
        telemetry: Is told of every request.
    """

    def __init__(self, app: ASGIApp, config: ServingConfig, telemetry: Telemetry) -> None:
        self._app, self._config, self._telemetry = app, config, telemetry

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request in, or answer it here."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.monotonic(), 499  # as nginx logs a client that has gone before the answer
        facts: dict[str, Any] = {}
        scope.setdefault("state", {})["facts"] = facts

        async def watched_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            refusal = self._refuse(scope)
            if refusal is not None:
                await refusal(scope, receive, watched_send)
            else:
                await self._app(scope, self._limited(receive), watched_send)
        finally:
            route = getattr(scope.get("route"), "path", "unmatched")
            self._telemetry.request(route, status, time.monotonic() - started, **facts)

    def _refuse(self, scope: Scope) -> JSONResponse | None:
        headers = dict(scope["headers"])
        if self._config.token is None and (wrong := wrong_name(Request(scope))) is not None:
            return problem(scope["path"], 400, wrong, ANY_NAME)
        if self._config.token is not None and scope["path"] not in OPEN_ROUTES:
            given = headers.get(b"authorization", b"")
            if not hmac.compare_digest(given, b"Bearer " + self._config.token.encode()):
                hint, asks = "Send `Authorization: Bearer TOKEN`.", {"WWW-Authenticate": "Bearer"}
                return problem(scope["path"], 401, "a valid token is needed", hint, **asks)
        if self._config.token is None and scope["method"] not in ("GET", "HEAD") and is_from_elsewhere(Request(scope)):
            return problem(scope["path"], 403, "pages of other sites may not do this")
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > self._config.limits.max_body_bytes:
            # The rest of the body is not read, so the connection cannot be used again.
            return problem(scope["path"], 413, self._too_large(), Connection="close")
        return None

    def _limited(self, receive: Receive) -> Receive:
        """The same messages, but no more bytes than allowed, and none that keeps us waiting for too long."""
        limits, seen, complete = self._config.limits, 0, False
        deadline = time.monotonic() + limits.request_timeout_seconds

        async def limited() -> Message:
            nonlocal seen, complete
            if complete:
                return await receive()
            try:
                message: Any = await asyncio.wait_for(receive(), max(0.0, deadline - time.monotonic()))
            except TimeoutError:
                raise HTTPException(408, "the body did not arrive in time") from None
            seen += len(message.get("body", b""))
            complete = message["type"] != "http.request" or not message.get("more_body", False)
            if seen > limits.max_body_bytes:
                raise HTTPException(413, self._too_large(), headers={"Connection": "close"})
            return message  # type: ignore[no-any-return]

        return limited

    def _too_large(self) -> str:
        return f"the body is larger than {self._config.limits.max_body_bytes} bytes"

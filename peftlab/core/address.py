"""Where a service of peftlab listens: nobody else's machine without a token, and a port in use is told at once."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import os
import signal
import socket
from typing import TYPE_CHECKING

from peftlab.core.errors import UserError

if TYPE_CHECKING:
    from starlette.types import ASGIApp

BACKLOG = 1024
TOKEN_VARIABLE = "PEFTLAB_TOKEN"  # noqa: S105 - the name of a variable


def is_loopback(address: str) -> bool:
    """Whether only this machine reaches the address."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


def given_token() -> str | None:
    """The token of the environment; None where there is none.

    Raises:
        UserError: It is too short to keep anybody out.
    """
    token = os.environ.get(TOKEN_VARIABLE) or None
    if token is not None and len(token) < 8:
        raise UserError("the token has fewer than 8 characters", where=TOKEN_VARIABLE)
    return token


def check_address(address: str, token: str | None) -> None:
    """Refuse to answer anybody from anywhere.

    Raises:
        UserError: The address is not the loopback's, and there is no token.
    """
    if not is_loopback(address) and token is None:
        raise UserError(
            f"{address} can be reached from other machines, and there is no token",
            where="--host",
            hint=f"Put a token into the variable {TOKEN_VARIABLE}, or leave --host at 127.0.0.1.",
        )


def bind(address: str, port: int) -> socket.socket:
    """A socket that listens; before anything is loaded, so that a port in use is told at once.

    Raises:
        UserError: The port is in use, or there is no such address here.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    # asyncio turns Nagle's algorithm off only where it is told that this is TCP; else small answers wait for 40 ms.
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((address, port))
    except (UnicodeError, socket.gaierror) as error:  # a name too long or with odd letters; one that nobody knows
        bound.close()
        raise UserError(
            f"there is no address {address}: {error}", where="--host", hint="Give an address of this machine."
        ) from None
    except OSError as error:
        bound.close()
        raise UserError(
            f"cannot listen on {address}, port {port}: {error.strerror}", where="--port", hint="Choose another --port."
        ) from None
    bound.listen(BACKLOG)
    return bound


def answer(app: ASGIApp, bound: socket.socket, *, grace_seconds: int) -> None:
    """Answer until SIGINT or SIGTERM, which end it in good order.

    Args:
        app: What answers.
        bound: From :func:`bind`.
        grace_seconds: Requests that go on get so long at the end.
    """
    import uvicorn

    logging.getLogger("uvicorn.error").addFilter(_is_a_fault)
    settings = uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=grace_seconds)
    server = uvicorn.Server(settings)

    def stop(_number: int, _frame: object) -> None:
        # Before uvicorn listens to signals, and after: once it has shut down, it raises what it got again.
        server.should_exit = True

    before = {wanted: signal.signal(wanted, stop) for wanted in (signal.SIGINT, signal.SIGTERM)}
    try:
        server.run(sockets=[bound])
    finally:
        for wanted, handler in before.items():
            signal.signal(wanted, handler)


def _is_a_fault(record: logging.LogRecord) -> bool:
    """Whether a line tells of more than a request that was ended with the service; uvicorn says how many there were.

    A second Ctrl-C ends the application, too; of that Starlette writes the traceback as a text.
    """
    if record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError):
        return False
    return not record.getMessage().rstrip().endswith("asyncio.exceptions.CancelledError")


def url_of(address: str, bound: socket.socket) -> str:
    """What a browser is given."""
    shown = f"[{address}]" if ":" in address else address
    return f"http://{shown}:{bound.getsockname()[1]}"

"""What all pages of peftlab are guarded by: the names that they answer to, their policy, and the visitor's token."""

from __future__ import annotations

import hmac
import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from peftlab.core.address import TOKEN_VARIABLE, is_loopback

if TYPE_CHECKING:
    from starlette.requests import Request

ASK_BY_LOOPBACK = f"Ask by 127.0.0.1 or localhost; for other names, give --host and a token in {TOKEN_VARIABLE}."
"""The hint of :func:`wrong_name`, where --host says whether other names are answered to."""
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9.-]+)(:[0-9]*)?", re.IGNORECASE)
STRICT_POLICY = "; ".join(
    [
        "default-src 'none'",
        "style-src 'self'",
        "script-src 'self'",
        "connect-src 'self'",
        "img-src 'self' data:",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    ]
)
"""No style and no script but the page's own files."""


def page_headers(policy: str = STRICT_POLICY) -> dict[str, str]:
    """The headers of a page that shows strangers' texts."""
    return {
        "Content-Security-Policy": policy,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-store",
    }


def is_token(given: str, token: str | None) -> bool:
    """Whether a visitor has the token, found out in the same time whatever is given; nobody has where there is none."""
    return token is not None and hmac.compare_digest(given.encode(), token.encode())


def wrong_name(request: Request) -> str | None:
    """What is wrong with the name that a request asks for; None: it is one of this machine's.

    Pages of other sites must not reach a service by a name that they let point here.
    """
    host = request.headers.get("host")
    if host is None:
        return "the request has no header `Host`"
    found = _HOST.fullmatch(host)
    # `testserver` is what Starlette's own client asks for.
    if found is not None and (found[1] == "testserver" or is_loopback(found[1].strip("[]").lower())):
        return None
    return f"this service answers to the names of its own machine alone, and not to {host!r:.100}"


def is_from_elsewhere(request: Request) -> bool:
    """Whether a browser sends this for a page of another site. Programs send neither header."""
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return True
    origin = request.headers.get("origin")
    return origin is not None and urlsplit(origin).netloc != request.headers.get("host", "")


def cookie_of(request: Request, kind: str) -> str:
    """The name of the cookie that keeps the token. All ports of a machine share cookies, so each has its own.

    Args:
        request: Says the port.
        kind: Of the service: ``board``.
    """
    return f"peftlab_{kind}_{request.url.port or 0}"

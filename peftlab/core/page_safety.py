"""What all pages of peftlab are guarded by: the names that they answer to, their policy, and the visitor's token."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from starlette.requests import Request

LOOPBACK_NAMES = ["127.0.0.1", "localhost", "[::1]", "testserver"]
"""Of this machine: pages of other sites must not reach a service by a name that they let point here."""
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

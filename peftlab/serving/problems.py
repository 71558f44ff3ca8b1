"""What a client is told when its request is not answered."""

from __future__ import annotations

from typing import Any

from fastapi.responses import JSONResponse

OPENAI_ROUTES = frozenset({"/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/models", "/v1/responses"})
"""Their problems have OpenAI's shape; its clients show nothing of another. Some are asked for, and not there."""


def problem(path: str, status: int, error: str, hint: str | None = None, **headers: str) -> JSONResponse:
    """The response to a request that is refused, or has failed.

    Args:
        path: The request's.
        status: Of HTTP.
        error: What is wrong.
        hint: What to do about it.
        **headers: Of the response.
    """
    body = openai_problem(status, error, hint) if _is_openais(path) else {"error": error, "hint": hint}
    return JSONResponse(body, status, headers=headers)


def _is_openais(path: str) -> bool:
    return path in OPENAI_ROUTES or path.startswith("/v1/models/")


def openai_problem(status: int, error: str, hint: str | None) -> dict[str, Any]:
    """The same in OpenAI's shape (https://platform.openai.com/docs/guides/error-codes)."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    message = error if hint is None else f"{error.rstrip('.')}. {hint}"
    return {"error": {"message": message, "type": kind, "param": None, "code": None}}

"""The route ``/v1/generate``: a text as a whole, or as server-sent events while it is written.

A stream has one event ``data: {"text": …}`` for each piece, and at its end ``event: done`` with the same JSON object
that is the answer without ``stream``; or ``event: error`` with the problem.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import fastapi
from fastapi import Request
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from peftlab.core.errors import RunFailedError
from peftlab.serving.disconnect import unless_disconnected
from peftlab.serving.generate_requests import AcceptedRequest, accept, pieces_of, whole
from peftlab.serving.schemas import GenerateRequest, GenerateResponse
from peftlab.serving.served import PROBLEMS, Served
from peftlab.serving.service import Service

router = fastapi.APIRouter()
EVENTS: dict[int | str, dict[str, Any]] = {200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}}


@router.post("/v1/generate", responses={**PROBLEMS, **EVENTS}, response_model=GenerateResponse)
async def generate(body: GenerateRequest, request: Request, service: Served) -> Any:
    """Let one of the adapters write a text."""
    accepted = accept(service, body)
    facts = request.state.facts
    facts.update(adapter=accepted.hosted.name, texts=1, stream=body.stream, prompt_tokens=accepted.prompt_tokens)
    if body.stream:
        return EventStream(service, accepted, facts)
    answer = await unless_disconnected(request, whole(service, accepted))
    facts.update(new_tokens=answer.new_tokens)
    return answer


class EventStream(StreamingResponse):
    """A text as server-sent events; the work ends with the connection.

    Args:
        service: Counts and logs.
        accepted: The request.
        facts: Of the request, for the log.
    """

    def __init__(self, service: Service, accepted: AcceptedRequest, facts: dict[str, Any]) -> None:
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(_events(service, accepted, facts), media_type="text/event-stream", headers=headers)
        self._accepted = accepted

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events; a client that goes before the first of them stops the work too."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._accepted.answer.cancel()


async def _events(service: Service, accepted: AcceptedRequest, facts: dict[str, Any]) -> AsyncIterator[str]:
    facts["finished"] = False
    try:
        async for piece in pieces_of(service, accepted):
            if isinstance(piece, str):
                yield _event({"text": piece})
            else:
                facts.update(finished=True, new_tokens=piece.new_tokens)
                yield _event(piece.model_dump(), "done")
    except TimeoutError:
        yield _event({"error": "the answer did not come in time", "hint": None}, "error")
    except RunFailedError as error:
        yield _event({"error": error.message, "hint": error.hint}, "error")
    except Exception as error:  # noqa: BLE001 - the status has been sent, so that the client must hear of it here
        service.telemetry.event("defect", error=type(error).__name__)
        yield _event({"error": "this is a defect of peftlab", "hint": None}, "error")


def _event(data: dict[str, Any], kind: str | None = None) -> str:
    return (f"event: {kind}\n" if kind else "") + f"data: {json.dumps(data, ensure_ascii=False)}\n\n"

"""The route ``/v1/generate``: a text as a whole, or as server-sent events while it is written.

A stream has one event ``data: {"text": …}`` for each piece, and at its end ``event: done`` with the same JSON object
that is the answer without ``stream``; or ``event: error`` with the problem.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import fastapi
from fastapi import Request

from peftlab.serving.disconnect import unless_disconnected
from peftlab.serving.event_stream import EVENTS, EventStream, event
from peftlab.serving.generate_requests import accept, whole
from peftlab.serving.schemas import GenerateRequest, GenerateResponse
from peftlab.serving.served import PROBLEMS, Served

router = fastapi.APIRouter()


@router.post("/v1/generate", responses={**PROBLEMS, **EVENTS}, response_model=GenerateResponse)
async def generate(body: GenerateRequest, request: Request, service: Served) -> Any:
    """Let one of the adapters write a text."""
    accepted = accept(service, body)
    facts = request.state.facts
    facts.update(adapter=accepted.hosted.name, texts=1, stream=body.stream, prompt_tokens=accepted.prompt_tokens)
    if body.stream:
        return EventStream(service, accepted, facts, _Events())
    answer = await unless_disconnected(request, whole(service, accepted))
    facts.update(new_tokens=answer.new_tokens)
    return answer


class _Events:
    """Events of this route."""

    def begun(self) -> Iterable[str]:
        return ()

    def piece(self, text: str) -> str:
        return event({"text": text})

    def done(self, answer: GenerateResponse) -> Iterable[str]:
        yield event(answer.model_dump(), "done")

    def problem(self, error: str, hint: str | None) -> str:
        return event({"error": error, "hint": hint}, "error")

"""A text as server-sent events, in the shape of its route."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable
from typing import Any, Protocol

from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from peftlab.core.errors import RunFailedError
from peftlab.serving.generate_requests import AcceptedRequest, pieces_of
from peftlab.serving.schemas import GenerateResponse
from peftlab.serving.service import Service

EVENTS: dict[int | str, dict[str, Any]] = {200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}}
"""What a route that may stream answers beside JSON, for its documentation."""


class EventShape(Protocol):
    """What a route says at the events of a text."""

    def begun(self) -> Iterable[str]:
        """Events before the first piece."""

    def piece(self, text: str) -> str:
        """The event of a piece."""

    def done(self, answer: GenerateResponse) -> Iterable[str]:
        """Events behind the last piece."""

    def problem(self, error: str, hint: str | None) -> str:
        """The event of an error, which ends the stream."""


class EventStream(StreamingResponse):
    """A text as server-sent events; the work ends with the connection.

    Args:
        service: Counts and logs.
        accepted: The request.
        facts: Of the request, for the log.
        shape: What the events look like.
    """

    def __init__(self, service: Service, accepted: AcceptedRequest, facts: dict[str, Any], shape: EventShape) -> None:
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(_events(service, accepted, facts, shape), media_type="text/event-stream", headers=headers)
        self._accepted = accepted

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events; a client that goes before the first of them stops the work too."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._accepted.answer.cancel()


async def _events(
    service: Service, accepted: AcceptedRequest, facts: dict[str, Any], shape: EventShape
) -> AsyncIterator[str]:
    facts["finished"] = False
    try:
        for event in shape.begun():
            yield event
        async for piece in pieces_of(service, accepted):
            if isinstance(piece, str):
                yield shape.piece(piece)
            else:
                facts.update(finished=True, new_tokens=piece.new_tokens)
                for event in shape.done(piece):
                    yield event
    except TimeoutError:
        yield shape.problem("the answer did not come in time", None)
    except RunFailedError as error:
        yield shape.problem(error.message, error.hint)
    except Exception as error:  # noqa: BLE001 - the status has been sent, so that the client must hear of it here
        service.telemetry.event("defect", error=type(error).__name__)
        yield shape.problem("this is a defect of peftlab", None)


def event(data: dict[str, Any], kind: str | None = None) -> str:
    """One event as it is sent."""
    return (f"event: {kind}\n" if kind else "") + f"data: {json.dumps(data, ensure_ascii=False)}\n\n"

"""From a request to text that a model writes: its prompt, its place in the queue, and its pieces as they come."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from peftlab.core.capabilities import GeneratesText
from peftlab.core.errors import UnsupportedError, UserError
from peftlab.core.splits import Example, Split
from peftlab.inference.generate import (
    GeneratedText,
    GenerationOptions,
    check_room,
    check_texts,
    encode_prompts,
    options_of,
    prompt_columns,
)
from peftlab.serving.host import Hosted, TextRequest, WorkItem
from peftlab.serving.schemas import GenerateRequest, GenerateResponse
from peftlab.serving.service import Service
from peftlab.serving.serving_config import Limits


@dataclass(frozen=True)
class AcceptedRequest:
    """A request in the queue.

    Args:
        hosted: Who answers.
        prompt: Its tokens, and whether they were cut.
        answer: The whole text, in the end; cancelling it stops the work.
        pieces: The text as it is written, and None behind its end; empty where it is not streamed.
        deadline: When the answer is late, on the monotonic clock.
    """

    hosted: Hosted
    prompt: Example
    answer: asyncio.Future[GeneratedText]
    pieces: asyncio.Queue[str | None]
    deadline: float

    @property
    def prompt_tokens(self) -> int:
        """How many the model reads."""
        return len(self.prompt["input_ids"])

    def response(self, written: GeneratedText) -> GenerateResponse:
        """What the client gets of a whole text."""
        return GenerateResponse(
            adapter=self.hosted.name,
            generated=written.text,
            finish_reason=written.finish_reason,
            prompt_tokens=self.prompt_tokens,
            truncated=bool(self.prompt.get("truncated", False)),
            new_tokens=written.new_tokens,
        )


def accept(service: Service, body: GenerateRequest) -> AcceptedRequest:
    """Put a request into the queue, or refuse it.

    As for predictions, nothing is awaited between the look-up of the adapter and the queue.

    Raises:
        UserError: There is no such adapter, it writes no text, or the prompt cannot be used.
        QueueFullError: There is no room in the queue.
        ClosingError: The service is shutting down.
    """
    hosted, limits = service.find(body.adapter), service.config.limits
    if not isinstance(hosted.tuned.task, GeneratesText):
        raise UnsupportedError(
            f"the adapter `{hosted.name}` ({hosted.tuned.task.registered_name}) writes no text",
            hint="Ask /v1/predict.",
        )
    if body.max_new_tokens is not None and body.max_new_tokens > limits.max_new_tokens:
        raise UserError(f"max_new_tokens is {body.max_new_tokens}; {limits.max_new_tokens} are allowed")
    options = options_of(hosted.tuned, max_new_tokens=body.max_new_tokens, temperature=body.temperature)
    prompt = _prompt(hosted, hosted.tuned.task, body, options, limits)
    loop, pieces = asyncio.get_running_loop(), asyncio.Queue[str | None]()

    def show(piece: str) -> None:
        loop.call_soon_threadsafe(pieces.put_nowait, piece)

    writing = TextRequest(options, show if body.stream else None)
    deadline = time.monotonic() + limits.request_timeout_seconds
    (answer,) = service.batcher.submit([WorkItem(hosted, prompt, writing)])
    answer.add_done_callback(lambda _: pieces.put_nowait(None))
    return AcceptedRequest(hosted, prompt, answer, pieces, deadline)


async def whole(service: Service, accepted: AcceptedRequest) -> GenerateResponse:
    """The text once it is there.

    Raises:
        TimeoutError: It is late.
    """
    try:
        async with asyncio.timeout(max(0.0, accepted.deadline - time.monotonic())):
            written = await accepted.answer
    finally:
        accepted.answer.cancel()  # the client has gone, or its time is over: the model stops at its next token
    _count(service, accepted, written)
    return accepted.response(written)


async def pieces_of(service: Service, accepted: AcceptedRequest) -> AsyncIterator[str | GenerateResponse]:
    """The text as it is written, and at last what the client would have got of it whole.

    Raises:
        TimeoutError: It is late.
    """
    while True:
        piece = await asyncio.wait_for(accepted.pieces.get(), max(0.0, accepted.deadline - time.monotonic()))
        if piece is None:
            break
        yield piece
    written = await accepted.answer
    _count(service, accepted, written)
    yield accepted.response(written)


def _count(service: Service, accepted: AcceptedRequest, written: GeneratedText) -> None:
    service.telemetry.texts.labels(accepted.hosted.name).inc()
    service.telemetry.tokens.labels(accepted.hosted.name).inc(written.new_tokens)


def _prompt(
    hosted: Hosted, task: GeneratesText, body: GenerateRequest, options: GenerationOptions, limits: Limits
) -> Example:
    tuned = hosted.tuned
    if body.messages is not None:
        messages = [message.model_dump(exclude_none=True) for message in body.messages]
        said = [value for message in messages for key, value in message.items() if key != "role"]
        _check_size(sum(map(_characters, [*said, *(body.tools or [])])), limits)
        given: dict[str, list[Any]] = {"messages": [messages], "tools": [body.tools]}
        check_texts(Split("request", range(1), given, "messages", form="value"), ["messages"])
        prompt = task.conversation_prompt(messages, tuned.tokenizer, body.tools)
        check_room(tuned, prompt["input_ids"], options, where="messages")
        return prompt
    text = body.text or ""
    _check_size(len(text), limits)
    row = task.prompt_row(text)
    split = Split("request", range(1), {name: [row.get(name)] for name in prompt_columns(tuned)}, "text", form="value")
    check_texts(split, task.prompt_columns())
    return encode_prompts(tuned, split, options)[0]


def _characters(value: Any) -> int:
    return len(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def _check_size(characters: int, limits: Limits) -> None:
    if characters > limits.max_text_characters:
        raise UserError(f"the prompt has {characters} characters; {limits.max_text_characters} are allowed")

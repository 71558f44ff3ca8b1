"""The routes ``/v1/chat/completions`` and ``/v1/completions``: texts in OpenAI's shape, for clients that speak it.

https://platform.openai.com/docs/api-reference/chat and …/completions; ``model`` is the adapter's name. The text is that
of ``/v1/generate``: without a ``temperature`` the most likely token each time. What this service cannot do is refused
with the reason, never left out in silence.
"""

from __future__ import annotations

import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, Literal, Self

import fastapi
from fastapi import Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field, model_validator

from peftlab.serving.disconnect import unless_disconnected
from peftlab.serving.event_stream import EVENTS, EventStream, event
from peftlab.serving.generate_requests import accept, whole
from peftlab.serving.problems import openai_problem
from peftlab.serving.schemas import Body, Conversation, GenerateRequest, GenerateResponse, Temperature
from peftlab.serving.served import PROBLEMS, Served
from peftlab.serving.service import Service

router = fastapi.APIRouter()
END = "data: [DONE]\n\n"
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "best_of": (1,),
    "top_p": (1,),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "logit_bias": ({},),
    "stop": ([], ""),
    "echo": (False,),
    "suffix": ("",),
    "response_format": ({"type": "text"},),
    "tool_choice": ("auto",),
}
"""Keys of OpenAI's that mean nothing here, and the values that ask for nothing; null is one of each."""


class StreamOptions(Body):
    """How a stream ends."""

    include_usage: bool = Field(False, description="Tell the numbers of tokens in a last chunk.")
    include_obfuscation: bool = Field(False, description="Not used.")


class CompletionBody(Body):
    """What both routes take."""

    model: str | None = Field(None, description="The adapter's name; may be left out where there is one only.")
    max_tokens: int | None = Field(None, ge=1, description="Where the text is cut; null: as the recipe says.")
    temperature: Temperature | None = Field(None, description="Null or 0: always the most likely token.")
    stream: bool | None = Field(None, description="Send the text as server-sent events, while it is written.")
    stream_options: StreamOptions | None = None
    seed: int | None = Field(None, description="Without a temperature there is nothing to draw; else refused.")
    user: str | None = Field(None, description="Not used.")
    n: Any = Field(None, description="Only 1.")
    top_p: Any = Field(None, description="Only 1.")
    presence_penalty: Any = Field(None, description="Only 0.")
    frequency_penalty: Any = Field(None, description="Only 0.")
    logprobs: Any = Field(None, description="Only false.")
    logit_bias: Any = Field(None, description="Only empty.")
    stop: Any = Field(None, description="Only empty: a text ends as the model has learned.")

    @model_validator(mode="after")
    def _nothing_unknown(self) -> Self:
        for name, values in NEUTRAL.items():
            given = getattr(self, name, None)
            if given is not None and given not in values:
                raise ValueError(f"`{name}` cannot be had here: leave it out")
        if self.seed is not None and self.temperature:
            raise ValueError("`seed`: a text that is drawn cannot be drawn again here; leave out seed or temperature")
        return self


class ChatCompletionRequest(CompletionBody):
    """A conversation for one adapter to go on with."""

    messages: Conversation
    tools: list[dict[str, Any]] | None = Field(
        None, description="Shown to the model; a call is in the text, as the model's chat template writes it."
    )
    tool_choice: Any = Field(None, description="Only `auto`.")
    max_completion_tokens: int | None = Field(None, ge=1, description="The newer name of max_tokens.")
    response_format: Any = Field(None, description="Only text.")
    top_logprobs: Any = Field(None, description="Only 0.")

    def asked(self) -> GenerateRequest:
        """The same for ``/v1/generate``."""
        # What OpenAI calls the developer's words since 2025 is the system's in chat templates.
        messages = [
            message.model_copy(update={"role": "system"}) if message.role == "developer" else message
            for message in self.messages
        ]
        return GenerateRequest(
            messages=messages,
            tools=self.tools or None,
            adapter=self.model,
            max_new_tokens=self.max_completion_tokens or self.max_tokens,
            temperature=self.temperature or 0.0,
            stream=bool(self.stream),
        )


class CompletionRequest(CompletionBody):
    """A text for one adapter to go on with."""

    prompt: str | list[str] = Field(description="One text.")
    best_of: Any = Field(None, description="Only 1.")
    echo: Any = Field(None, description="Only false.")
    suffix: Any = Field(None, description="Only empty.")

    @model_validator(mode="after")
    def _one_prompt(self) -> Self:
        if isinstance(self.prompt, list) and len(self.prompt) != 1:
            raise ValueError("`prompt` must be one text; send others by themselves, they are computed together")
        return self

    def asked(self) -> GenerateRequest:
        """The same for ``/v1/generate``."""
        return GenerateRequest(
            text=self.prompt if isinstance(self.prompt, str) else self.prompt[0],
            adapter=self.model,
            max_new_tokens=self.max_tokens,
            temperature=self.temperature or 0.0,
            stream=bool(self.stream),
        )


class Usage(BaseModel):
    """Tokens that were read and written."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int

    @classmethod
    def of(cls, answer: GenerateResponse) -> Self:
        """Of a text."""
        read, written = answer.prompt_tokens, answer.new_tokens
        return cls(prompt_tokens=read, completion_tokens=written, total_tokens=read + written)


class AssistantMessage(BaseModel):
    """What the model says."""

    role: Literal["assistant"] = "assistant"
    content: str


class ChatChoice(BaseModel):
    """The only answer."""

    index: Literal[0] = 0
    message: AssistantMessage
    finish_reason: str


class TextChoice(BaseModel):
    """The only text."""

    index: Literal[0] = 0
    text: str
    finish_reason: str


class CompletionResponse(BaseModel):
    """What was written; ``truncated`` is peftlab's: whether the beginning of a long prompt was cut away."""

    id: str
    object: Literal["chat.completion", "text_completion"]
    created: int
    model: str
    choices: list[ChatChoice | TextChoice]
    usage: Usage
    truncated: bool


@router.post("/v1/chat/completions", responses={**PROBLEMS, **EVENTS}, response_model=CompletionResponse)
async def chat_completions(body: ChatCompletionRequest, request: Request, service: Served) -> Any:
    """Let one of the adapters answer in a conversation."""
    return await _answer(body, body.asked(), _ChatShape, request, service)


@router.post("/v1/completions", responses={**PROBLEMS, **EVENTS}, response_model=CompletionResponse)
async def completions(body: CompletionRequest, request: Request, service: Served) -> Any:
    """Let one of the adapters go on with a text."""
    return await _answer(body, body.asked(), _TextShape, request, service)


async def _answer(
    body: CompletionBody, asked: GenerateRequest, shape_of: type[_Shape], request: Request, service: Service
) -> Any:
    accepted = accept(service, asked)
    facts = request.state.facts
    facts.update(adapter=accepted.hosted.name, texts=1, stream=asked.stream, prompt_tokens=accepted.prompt_tokens)
    tells_usage = body.stream_options is not None and body.stream_options.include_usage
    shape = shape_of(accepted.hosted.name, tells_usage=tells_usage)
    if asked.stream:
        return EventStream(service, accepted, facts, shape)
    answer = await unless_disconnected(request, whole(service, accepted))
    facts.update(new_tokens=answer.new_tokens)
    return JSONResponse(shape.whole(answer).model_dump())


class _Shape(ABC):
    """Answers and chunks of one request.

    Args:
        model: The adapter's name.
        tells_usage: Whether a stream has a last chunk with the numbers of tokens.
    """

    answer_object: Literal["chat.completion", "text_completion"]
    chunk_object: str
    prefix: str

    def __init__(self, model: str, *, tells_usage: bool) -> None:
        self._model, self._tells_usage = model, tells_usage
        self._id, self._created = f"{self.prefix}-{uuid.uuid4().hex}", int(time.time())

    @abstractmethod
    def choice(self, answer: GenerateResponse) -> ChatChoice | TextChoice:
        """The text as a whole."""

    @abstractmethod
    def part(self, text: str | None) -> dict[str, Any]:
        """A piece of the text; None: nothing more comes."""

    def whole(self, answer: GenerateResponse) -> CompletionResponse:
        """The answer without a stream."""
        return CompletionResponse(
            id=self._id,
            object=self.answer_object,
            created=self._created,
            model=self._model,
            choices=[self.choice(answer)],
            usage=Usage.of(answer),
            truncated=answer.truncated,
        )

    def begun(self) -> Iterable[str]:
        return ()

    def piece(self, text: str) -> str:
        return self._chunk([{"index": 0, **self.part(text), "finish_reason": None}])

    def done(self, answer: GenerateResponse) -> Iterable[str]:
        end = {"index": 0, **self.part(None), "finish_reason": answer.finish_reason}
        yield self._chunk([end], truncated=answer.truncated)
        if self._tells_usage:
            yield self._chunk([], usage=Usage.of(answer).model_dump())
        yield END

    def problem(self, error: str, hint: str | None) -> str:
        return event(openai_problem(500, error, hint))

    def _chunk(self, choices: list[dict[str, Any]], **more: Any) -> str:
        about = {"id": self._id, "object": self.chunk_object, "created": self._created, "model": self._model}
        return event({**about, "choices": choices, **more})


class _ChatShape(_Shape):
    answer_object = "chat.completion"
    chunk_object = "chat.completion.chunk"
    prefix = "chatcmpl"

    def choice(self, answer: GenerateResponse) -> ChatChoice:
        return ChatChoice(message=AssistantMessage(content=answer.generated), finish_reason=answer.finish_reason)

    def begun(self) -> Iterable[str]:
        delta = {"role": "assistant", "content": ""}
        yield self._chunk([{"index": 0, "delta": delta, "finish_reason": None}])

    def part(self, text: str | None) -> dict[str, Any]:
        return {"delta": {} if text is None else {"content": text}}


class _TextShape(_Shape):
    answer_object = "text_completion"
    chunk_object = "text_completion"
    prefix = "cmpl"

    def choice(self, answer: GenerateResponse) -> TextChoice:
        return TextChoice(text=answer.generated, finish_reason=answer.finish_reason)

    def part(self, text: str | None) -> dict[str, Any]:
        return {"text": text or ""}

"""What clients send and get: the bodies of the HTTP interface."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Body(BaseModel):
    """A body without unknown keys."""

    model_config = ConfigDict(extra="forbid")


class PredictRequest(Body):
    """Texts for one adapter."""

    texts: list[str | list[str]] = Field(
        min_length=1, description="Texts; for pairs, lists of two; for images, their files in base64."
    )
    adapter: str | None = Field(None, description="Its name; may be left out where there is one only.")


class PredictResponse(BaseModel):
    """One answer for each text, in their order; the same as `peftlab predict` gives."""

    adapter: str
    predictions: list[dict[str, Any]]


class Message(Body):
    """What somebody said; what the model's chat template knows beside role and content is passed on to it."""

    role: str
    content: str | list[dict[str, Any]] | None = Field(None, description="A text, or parts of the type `text`.")
    name: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[dict[str, Any]] | None = None
    tool_call_id: str | None = None


Conversation = Annotated[list[Message], Field(min_length=1, max_length=256)]
Temperature = Annotated[float, Field(ge=0, le=10)]


class GenerateRequest(Body):
    """A text, or the messages of a conversation, for one adapter to go on with."""

    text: str | None = Field(None, description="One prompt, as for `peftlab predict`.")
    messages: Conversation | None = Field(
        None, description="Instead: a conversation that ends with the user's message."
    )
    tools: list[dict[str, Any]] | None = Field(None, description="With messages: JSON schemas of tools to be called.")
    adapter: str | None = Field(None, description="Its name; may be left out where there is one only.")
    max_new_tokens: int | None = Field(None, ge=1, description="Where the text is cut; null: as the recipe says.")
    temperature: Temperature = Field(0.0, description="0: always the most likely token.")
    stream: bool = Field(False, description="Send the text as server-sent events, while it is written.")

    @model_validator(mode="after")
    def _one_prompt(self) -> Self:
        if (self.text is None) == (self.messages is None):
            raise ValueError("give either `text` or `messages`")
        if self.tools is not None and self.messages is None:
            raise ValueError("`tools` go with `messages`")
        return self


class GenerateResponse(BaseModel):
    """What was written; without a temperature, the same as `peftlab predict` writes."""

    adapter: str
    generated: str
    finish_reason: str = Field(description="`stop`: the model ended the text; `length`: it was cut.")
    prompt_tokens: int = Field(description="That the model read.")
    truncated: bool = Field(description="Whether the beginning of a long prompt was cut away, as in evaluation.")
    new_tokens: int


class AdapterInfo(BaseModel):
    """One adapter."""

    name: str
    run: str
    task: str
    method: str
    labels: list[str]
    max_length: int | None
    temperature: float = Field(description="By which the scores of its predictions are calibrated.")
    generates: bool = Field(description="Whether it writes text (/v1/generate) or predicts (/v1/predict).")
    rides_with_others: bool = Field(description="Whether its texts share batches with those of other adapters.")


class AdaptersResponse(BaseModel):
    """All adapters."""

    adapters: list[AdapterInfo]


class AddAdapterRequest(Body):
    """A run or export on the server's disk."""

    name: str = Field(pattern=r"^[\w][\w.-]{0,63}$")
    folder: str = Field(min_length=1, max_length=4096)


class Health(BaseModel):
    """Whether the service takes requests."""

    status: str
    adapters: int
    waiting: int


class Problem(BaseModel):
    """What went wrong, and what to do about it."""

    error: str
    hint: str | None = None

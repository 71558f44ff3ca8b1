"""What clients send and get: the bodies of the HTTP interface."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Body(BaseModel):
    """A body without unknown keys."""

    model_config = ConfigDict(extra="forbid")


class PredictRequest(Body):
    """Texts for one adapter."""

    texts: list[str | list[str]] = Field(min_length=1, description="Texts; for pairs, lists of two.")
    adapter: str | None = Field(None, description="Its name; may be left out where there is one only.")


class PredictResponse(BaseModel):
    """One answer for each text, in their order; the same as `peftlab predict` gives."""

    adapter: str
    predictions: list[dict[str, Any]]


class AdapterInfo(BaseModel):
    """One adapter."""

    name: str
    run: str
    task: str
    method: str
    labels: list[str]
    max_length: int | None
    temperature: float
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

"""Limits of the service. Every one of them is there so that no client can take the service away from the others."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from peftlab.core.config import Config

CPU_PADDING, GPU_PADDING = 32, 8192
"""Tokens that take about as long as starting a batch, on each kind of device."""
MOST_WORKERS = 4
"""More would mostly wait for Python's lock."""


class Limits(Config):
    """What a client may ask for, and how long things may take."""

    max_text_characters: PositiveInt = Field(20_000, description="Characters of a text.")
    max_new_tokens: PositiveInt = Field(1024, description="Tokens that a request may ask to be written.")
    max_texts: PositiveInt = Field(64, description="Texts of a request.")
    max_body_bytes: PositiveInt = Field(1_000_000, description="Bytes of a request's body.")
    max_queue: PositiveInt = Field(512, description="Texts that wait; more are refused with 429.")
    request_timeout_seconds: PositiveFloat = Field(30.0, description="For the body to arrive, and for the answer.")


class Batching(Config):
    """How requests become batches."""

    max_batch: PositiveInt = Field(32, description="Texts of a batch.")
    free_padding: NonNegativeInt = Field(
        CPU_PADDING,
        description="Tokens of padding that cost less than another batch: few on a CPU, thousands on a GPU.",
    )
    workers: PositiveInt = Field(1, description="Batches that are computed at once, each on its share of the cores.")
    max_wait_seconds: float = Field(0.004, ge=0, description="A text waits so long for others, and no longer.")


class ServingConfig(Config):
    """All settings of a service."""

    limits: Limits = Field(default_factory=Limits, description="What clients may ask for.")
    batching: Batching = Field(default_factory=Batching, description="How requests become batches.")
    token: str | None = Field(None, min_length=8, description="Bearer token that every request must bring.")
    adapter_folders: tuple[Path, ...] = Field((), description="Adapters may be added from below these folders only.")

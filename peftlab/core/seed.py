"""A seed: a number that every generator takes."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

LARGEST_SEED = 2**32 - 1
"""Numpy's older generators, which libraries use, take none above."""

Seed = Annotated[int, Field(ge=0, le=LARGEST_SEED)]

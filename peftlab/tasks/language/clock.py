"""What a chat template with a clock is told the time is: written down once, so that it holds for good."""

from __future__ import annotations

import datetime
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from peftlab.core.model_facts import TokenizerFacts
from peftlab.tasks.language.chat_template import CLOCK


def _as_iso(value: Any) -> Any:
    if isinstance(value, datetime.date):  # as YAML reads a date without quotation marks
        return value.isoformat()
    if isinstance(value, str):
        try:
            datetime.datetime.fromisoformat(value)
        except ValueError:
            raise ValueError("a date is needed, such as 2026-11-26 or 2026-11-26T18:00:00") from None
    return value


TemplateDate = Annotated[
    str | None,
    BeforeValidator(_as_iso),
    Field(
        description="The time for chat templates that show it, such as 2026-11-26T18:00:00. null: when the run "
        "began. The run writes it here and uses it from then on."
    ),
]
"""A recipe's key: a date, or a date with a time, in ISO 8601."""


def has_clock(tokenizer: TokenizerFacts | None) -> bool:
    """Whether the tokenizer's chat template asks for the time."""
    return tokenizer is not None and CLOCK in (tokenizer.chat_template or "")


def settled_date(
    date: str | None, earlier: str | None, now: datetime.datetime, tokenizer: TokenizerFacts | None
) -> str | None:
    """What is written down as the date of a task.

    Args:
        date: The recipe's.
        earlier: That of the run which this one goes on from.
        now: The time of the start: taken where the tokenizer's chat template asks for one, and nobody has given it.
        tokenizer: Of the model; None: not known yet.
    """
    return date if date is not None or not has_clock(tokenizer) else earlier or now.isoformat()


def template_time(date: str | None) -> datetime.datetime | None:
    """The time that a template is told; None: it is told its own."""
    return None if date is None else datetime.datetime.fromisoformat(date)

"""What an audit has found, as a program reads it."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from peftlab.core.config import Config


class ReportedFigure(Config):
    """A figure; what its keys mean stands in ``peftlab.core.audit.Figure``."""

    value: float
    low: float | None
    high: float | None
    n: int
    sampled: str
    unit: str
    higher_is_better: bool | None
    p_value: float | None = Field(description="Corrected for all that the whole audit has tested; null: not tested.")
    alarm: bool
    sentence: str
    examples: list[dict[str, Any]]


class ReportedPart(Config):
    """A part of an audit: the names of its figures, what matters most first, and what it could not look at."""

    title: str
    figures: list[str]
    notes: list[str]


class Breach(Config):
    """A figure that is beyond its threshold."""

    figure: str
    value: float
    limit: float
    sentence: str


class AuditReport(Config):
    """The one JSON object of ``peftlab audit --json``."""

    run: str
    task: str
    data: str
    rows: int
    seed: int
    alarms: list[str] = Field(description="Names of figures; in a model without faults at all, 5 % of audits have any.")
    figures: dict[str, ReportedFigure]
    parts: dict[str, ReportedPart]
    skipped: dict[str, str] = Field(description="Parts that say nothing of this model and these rows, and why.")
    breaches: list[Breach] = Field(default_factory=list, description="Of the thresholds of --fail-under.")
    thresholds: int = Field(0, description="How many thresholds were looked at.")
    seconds: float

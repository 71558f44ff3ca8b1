"""What an audit has found, as a program reads it."""

from __future__ import annotations

from typing import Any, Literal

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


class ComparedFigure(Config):
    """A figure of two audits of the same rows."""

    before: float
    after: float
    difference: float = Field(description="After less before.")
    low: float | None = Field(description="Lower end of the difference's 95 % interval; null: there is none.")
    high: float | None
    n: int
    sampled: str
    unit: str
    paired: bool = Field(description="Whether it was compared row by row, name by name, or set by set.")
    p_value: float | None = Field(description="That nothing has changed, corrected for all figures; null: not tested.")
    change: Literal["better", "worse", "moved", "unclear"] = Field(
        description="moved: it has changed, and neither side is better. unclear: chance explains the difference."
    )


class BeforeReport(Config):
    """What the audited run has changed, next to another one on the same rows."""

    run: str
    rows_learned: int | None = Field(
        description="Audited rows whose text that run was trained on, so that it does better on them; null: not known."
    )
    figures: dict[str, ComparedFigure]
    better: list[str]
    worse: list[str]
    moved: list[str]
    only_before: list[str] = Field(description="Figures that cannot be compared, such as those of other groups.")
    only_after: list[str]


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
    before: BeforeReport | None = Field(None, description="What has changed since the run of --before.")
    thresholds: int = Field(0, description="How many thresholds were looked at.")
    caveats: list[str] = Field(default_factory=list, description="Why figures on these rows may look too good.")
    seconds: float

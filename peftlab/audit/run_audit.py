"""An audit from its rows to its report: every part looks, and what they have tested is corrected together."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from peftlab.audit.report import AuditReport, ReportedFigure, ReportedPart
from peftlab.core.audit import AUDITS, Audit, Audited, Figure, Findings, Unit
from peftlab.core.checked_findings import checked_findings
from peftlab.core.config import Document, build_config, parse_yaml_value
from peftlab.core.errors import ConfigError, PeftlabError, PluginError, did_you_mean
from peftlab.core.plugins import fault_of

ALPHA = 0.05
FEWEST_ROWS = 20
"""With fewer, no figure says anything."""


def choose_parts(names: Sequence[str], settings: Sequence[str]) -> list[Audit]:
    """The parts to run, in the order of the page.

    Args:
        names: Of ``peftlab ls audits``; empty: all.
        settings: ``PART.KEY=VALUE`` each.

    Raises:
        ConfigError: There is no such part or key, or a value cannot be.
    """
    values: dict[str, dict[str, Any]] = {name: {} for name in names or AUDITS}
    for name in names:
        AUDITS.get(name, where="--parts")
    for setting in settings:
        path, equals, value = setting.partition("=")
        part, dot, key = path.partition(".")
        if not (equals and dot):
            raise ConfigError(
                f"`{setting}` is not of the form PART.KEY=VALUE", where="--set", hint="As in robustness.texts=300."
            )
        AUDITS.get(part, where="--set")
        if part not in values:
            raise ConfigError(
                f"`{part}` is not among the parts that are run", where="--set", hint=did_you_mean(part, values)
            )
        values[part][key] = parse_yaml_value(value)
    document = Document("--set", values)
    parts = [build_config(AUDITS[name], own, document=document, path=(name,)) for name, own in values.items()]
    return sorted(parts, key=lambda part: (part.order, part.registered_name))


def run_parts(audited: Audited, parts: Sequence[Audit]) -> tuple[dict[str, Findings], dict[str, str]]:
    """What each part finds, and why others say nothing.

    A part that another package has added, and that raises an error, costs no other part its work.

    Raises:
        UserError: A part was told to look at something that cannot be used.
    """
    found: dict[str, Findings] = {}
    skipped: dict[str, str] = {}
    for part in parts:
        try:
            why = part.why_not(audited)
            if why is None:
                audited.reporter.advance(0, part.registered_name)
                found[part.registered_name] = checked_findings(part.run(audited), part.registered_name)
        except Exception as error:
            why = _plugin_error(error)
            if why is None:
                raise
        if why is not None:
            skipped[part.registered_name] = why
    return found, skipped


def texts_to_read(audited: Audited, parts: Iterable[Audit]) -> int:
    """About how many texts the model will read."""
    count = 0
    for part in parts:
        try:
            count += part.texts_read(audited) if part.why_not(audited) is None else 0
        except Exception as error:
            if _plugin_error(error) is None:
                raise  # else it is told when the part is run
    return count


def _plugin_error(error: Exception) -> str | None:
    """What a plugin has raised that is no message for people; None: it is one, or comes from no plugin."""
    if isinstance(error, PluginError):
        return f"{error.message}. {error.hint or ''}".strip()
    fault = None if isinstance(error, PeftlabError) else fault_of(error)
    if fault is None:
        return None
    return f"the plugin {fault.package} has raised {type(error).__name__}: {error}, in {fault.place}"


def build_report(
    audited: Audited, found: Mapping[str, Findings], skipped: Mapping[str, str], *, data: str, began: float
) -> AuditReport:
    """Put the parts together; a p-value is multiplied by the number of parts that tested anything (Bonferroni)."""
    testing = sum(any(figure.p_value is not None for figure in each.figures) for each in found.values())
    figures: dict[str, ReportedFigure] = {}
    parts: dict[str, ReportedPart] = {}
    for name, each in found.items():
        reported = {figure.name: _reported(figure, testing) for figure in each.figures}
        order = sorted(reported, key=lambda own: not reported[own].alarm)
        figures |= reported
        parts[name] = ReportedPart(title=AUDITS[name].title, figures=order, notes=list(each.notes))
    alarms = sorted((name for name, figure in figures.items() if figure.alarm), key=lambda name: rank(figures[name]))
    return AuditReport(
        run=audited.model.name,
        task=audited.task.registered_name,
        data=data,
        rows=len(audited),
        seed=audited.seed,
        alarms=alarms,
        figures=figures,
        parts=parts,
        skipped=dict(skipped),
        seconds=round(time.monotonic() - began, 1),
    )


def rank(figure: ReportedFigure) -> tuple[bool, float]:
    """Where an alarm stands: what is a fault by itself first, then the largest; a sure trifle is one still."""
    size = abs(figure.value) if figure.unit in ("share", "difference") else 0.0
    return figure.p_value is not None, -size


def _reported(figure: Figure, testing: int) -> ReportedFigure:
    p_value = None if figure.p_value is None else min(figure.p_value * testing, 1.0)
    low, high = (None if end is None else _shown_end(end, figure.unit) for end in (figure.low, figure.high))
    return ReportedFigure(
        value=float(figure.value),
        low=low,
        high=high,
        n=int(figure.n),
        sampled=figure.sampled,
        unit=figure.unit,
        higher_is_better=figure.higher_is_better,
        p_value=p_value,
        alarm=figure.is_fault or (p_value is not None and p_value <= ALPHA),
        sentence=figure.sentence,
        examples=[dict(example) for example in figure.examples],
    )


def _shown_end(end: float, unit: Unit) -> float | None:
    """An end of an interval: no share lies beyond 0 and 1, and of a single number nothing says how far others lie."""
    if unit in ("share", "difference"):
        return min(max(end, 0.0 if unit == "share" else -1.0), 1.0)
    return end if math.isfinite(end) else None

"""An audit as one HTML page that needs nothing else: what matters first, in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from peftlab.audit.report import AuditReport, BeforeReport, ComparedFigure, ReportedFigure
from peftlab.core.files import begins_with, write_text

TEMPLATES = Path(__file__).parent / "templates"
MARKER = "<!-- peftlab audit -->"
"""The first line of every page: a file that begins with it may be replaced by a newer one."""
FIRST = 8
"""So many figures of a part are shown at once, and every alarm."""
LONGEST = 600
"""Characters of a value of an example."""


@dataclass(frozen=True)
class Row:
    """A figure as the page shows it."""

    name: str
    anchor: str
    alarm: bool
    sentence: str
    value: str
    interval: str
    n: str
    bar: tuple[str, str, str] | None
    examples: list[list[tuple[str, str]]]


@dataclass(frozen=True)
class Part:
    """A part of the audit as the page shows it."""

    name: str
    title: str
    alarms: int
    first: list[Row]
    rest: list[Row]
    notes: list[str]


@dataclass(frozen=True)
class ChangedRow:
    """A figure of two audits as the page shows it."""

    name: str
    anchor: str
    kind: str
    before: str
    after: str
    difference: str
    interval: str
    how: str


def is_audit_page(path: Path) -> bool:
    """Whether a file is a page that an audit has written."""
    return begins_with(path, MARKER)


def write_page(report: AuditReport, path: Path) -> None:
    """Write the page."""
    write_text(path, render_page(report))


def render_page(report: AuditReport) -> str:
    """The page as HTML."""
    environment = jinja2.Environment(autoescape=True, loader=jinja2.FileSystemLoader(TEMPLATES), trim_blocks=True)
    rows = {name: _row(name, figure) for name, figure in report.figures.items()}
    figure = environment.get_template("figure.html.j2")
    return environment.get_template("page.html.j2").render(
        marker=Markup(MARKER),  # noqa: S704 - our own text
        style=Markup((TEMPLATES / "page.css").read_text(encoding="utf-8")),  # noqa: S704 - our own file
        report=report,
        verdict=verdict(report),
        trust=trust(report),
        alarms=[rows[name] for name in report.alarms],
        changed="" if report.before is None else changed(report.before),
        unfair="" if report.before is None else unfair(report.before),
        changes=[] if report.before is None else [_changed(name, each) for name, each in report.before.figures.items()],
        parts=[_part(name, report, rows) for name in report.parts],
        figure=lambda row: Markup(figure.render(row=row)),  # noqa: S704 - the template escapes
    )


def verdict(report: AuditReport) -> str:
    """What matters first, as one line."""
    if report.breaches:
        return f"{_count(len(report.breaches), 'threshold')} not kept, {_count(len(report.alarms), 'alarm')}"
    if report.alarms:
        return f"{_count(len(report.alarms), 'thing')} that chance does not explain"
    return "No alarm"


def trust(report: AuditReport) -> str:
    """How much was tested, and what that can find."""
    tested = sum(figure.p_value is not None for figure in report.figures.values())
    all_kept = "The threshold is kept. " if report.thresholds == 1 else f"All {report.thresholds} thresholds are kept. "
    kept = all_kept if report.thresholds and not report.breaches else ""
    return (
        f"{kept}{_count(len(report.figures), 'figure')}, {tested} of them tested for a fault. Of models without "
        "faults, one audit in twenty should have an alarm at most."
    )


def changed(before: BeforeReport) -> str:
    """What has changed since the run before, as the rest of a line."""
    found = [f"{_count(len(before.better), 'figure')} better", f"{len(before.worse)} worse"]
    found += [f"{len(before.moved)} moved, of which neither side is better"] if before.moved else []
    return f"{', '.join(found)}, of {len(before.figures)} that can be compared"


def unfair(before: BeforeReport) -> str:
    """Why the run before may do too well on these rows; empty: it was trained on none of them."""
    if before.rows_learned is None:
        return "The training rows of the run before cannot be read: it may have learned some of these rows."
    if not before.rows_learned:
        return ""
    return f"The run before was trained on {before.rows_learned:,} of these rows, and does better on them for that."


def changes(before: BeforeReport) -> list[str]:
    """A line for each figure that is better, worse, or moved."""
    rows = [_changed(name, before.figures[name]) for name in (*before.worse, *before.better, *before.moved)]
    return [f"{row.kind}: {row.name} {row.before} → {row.after} ({row.interval})" for row in rows]


def shown_value(figure: ReportedFigure | ComparedFigure, value: float) -> str:
    """A value of the figure's kind, for people."""
    if figure.unit == "share":
        return f"{100 * value:.1f} %"
    if figure.unit == "difference":
        return f"{100 * value:+z.1f} points"
    return f"{value:,.0f}" if figure.unit == "count" else f"{value:.3g}"


def shown_interval(figure: ReportedFigure) -> str:
    """The interval, for people; empty where there is none."""
    if figure.low is None or figure.high is None:
        return ""
    low, high = shown_value(figure, figure.low), shown_value(figure, figure.high)
    for unit in (" %", " points"):
        low = low.removesuffix(unit) if high.endswith(unit) else low
    return f"{low} to {high}"


def _changed(name: str, figure: ComparedFigure) -> ChangedRow:
    is_points = figure.unit in ("share", "difference")

    def step(value: float) -> str:
        return f"{100 * value:+z.1f}" if is_points else f"{value:+.3g}"

    ends = "" if figure.low is None or figure.high is None else f"{step(figure.low)} to {step(figure.high)}"
    unit = " points" if is_points else ""
    how = f"{figure.n:,} {figure.sampled}" + (", in pairs" if figure.paired else ", not in pairs")
    return ChangedRow(
        name=name,
        anchor=f"figure-{name}".replace(" ", "_"),
        kind=figure.change,
        before=shown_value(figure, figure.before),
        after=shown_value(figure, figure.after),
        difference=step(figure.difference) + unit,
        interval=ends + (unit if ends else ""),
        how=how if ends else "not tested",
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _part(name: str, report: AuditReport, rows: Mapping[str, Row]) -> Part:
    part = report.parts[name]
    shown = [rows[figure] for figure in part.figures]
    alarms = sum(row.alarm for row in shown)
    first = max(FIRST, alarms)
    return Part(name, part.title, alarms, shown[:first], shown[first:], part.notes)


def _row(name: str, figure: ReportedFigure) -> Row:
    return Row(
        name=name,
        anchor=f"figure-{name}".replace(" ", "_"),
        alarm=figure.alarm,
        sentence=figure.sentence,
        value=shown_value(figure, figure.value),
        interval=shown_interval(figure),
        n=f"{figure.n:,} {figure.sampled}",
        bar=_bar(figure),
        examples=[[(_words(key), _shown(value)) for key, value in example.items()] for example in figure.examples],
    )


def _bar(figure: ReportedFigure) -> tuple[str, str, str] | None:
    """Beginning, width and mark in percent of the scale; None where the figure has no scale."""
    if figure.low is None or figure.high is None or figure.unit not in ("share", "difference"):
        return None
    least, most = (0.0, 1.0) if figure.unit == "share" else (-0.5, 0.5)
    places = [100 * (min(max(at, least), most) - least) / (most - least) for at in (figure.low, figure.high)]
    at = 100 * (min(max(figure.value, least), most) - least) / (most - least)
    return f"{places[0]:.2f}", f"{places[1] - places[0]:.2f}", f"{at:.2f}"


def _words(key: str) -> str:
    return key.replace("_", " ")


def _shown(value: Any) -> str:
    text = f"{value:.3g}" if isinstance(value, float) else str(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"

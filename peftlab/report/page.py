"""The report as one HTML page that needs nothing else, and ``write_report``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from peftlab.core.amounts import plural
from peftlab.core.files import begins_with, write_text
from peftlab.figures.svg import FIGURE_STYLE
from peftlab.report import report_tables as tables
from peftlab.report import wording
from peftlab.report.audits import audit_table, difference_table
from peftlab.report.choice import Limits, choice_data, size_for_input
from peftlab.report.classes import Classes, class_scores
from peftlab.report.comparison import MOST_METHODS, Comparison
from peftlab.report.comparison_tables import (
    MEMORY_PARTS,
    against_best_table,
    aligned_letters,
    class_table,
    confusion_table,
    disagreement_table,
    group_table,
    history_table,
    matrix_table,
    memory_table,
    ranking_table,
    settings_table,
)
from peftlab.report.disagreement import Disagreements, find_disagreements
from peftlab.report.document import Report, build_report
from peftlab.report.figure_set import (
    MOST_BARS,
    MOST_CURVES,
    Figure,
    MemoryBar,
    budget_figure,
    cut_note,
    interval_bars,
    learning_figures,
    memory_bars,
    pareto_figures,
)
from peftlab.report.headlines import headline
from peftlab.report.label_curves import label_figure, label_headline, label_table
from peftlab.report.notices import NOTHING_TO_COMPARE, Notice, comparison_notices
from peftlab.report.sequence_parts import sequence_part
from peftlab.report.table import Marked, Table
from peftlab.report.task_parts import TaskPart, task_parts

MARKER = "<!-- peftlab report -->"
"""The first line of every page: a file that begins with it may be replaced by a newer report."""
DETAILED = 30
"""So many comparisons get figures; of more, the page keeps to the tables."""


@dataclass(frozen=True)
class Section:
    """One comparison as the page shows it."""

    number: int
    comparison: Comparison
    headline: str
    notices: Sequence[Notice]
    ranking: Table
    bars: Sequence[Markup]
    letters: Sequence[str]
    groups: Table | None
    cut_note: str = ""
    against_best: Table | None = None
    matrix: Table | None = None
    pareto: Sequence[Figure] = ()
    curves: Sequence[Figure] = ()
    history: Table | None = None
    memory_bars: Sequence[MemoryBar] = ()
    memory: Table | None = None
    task_parts: Sequence[TaskPart] = ()
    audits: Table | None = None
    audit_differences: Table | None = None
    budget: Figure | None = None
    tuning: Table | None = None
    trials: Table | None = None
    class_table: Table | None = None
    confusions: Sequence[Table] = field(default_factory=tuple)
    disagreements: Disagreements | None = None
    disagreement_table: Table | None = None
    settings: Table | None = None


def is_page(path: Path) -> bool:
    """Whether a file is a page that a report has written."""
    return begins_with(path, MARKER)


def write_report(
    directories: Sequence[Path | str], output: Path | str, *, metric: str | None = None, limits: Limits | None = None
) -> Report:
    """Read records and write the HTML page. Paths below the page's folder are shown relative to it.

    Args:
        directories: Folders of runs, of suites, or with such folders in them.
        output: The page.
        metric: What to rank by; None: what each run was judged by.
        limits: What a method may take.

    Returns:
        What the page is made of.

    Raises:
        UserError: Nothing can be read, or no run has the metric.
    """
    output = Path(output)
    report = build_report(directories, base=output.parent, metric=metric, limits=limits)
    write_text(output, render_html(report))
    return report


def render_html(report: Report) -> str:
    """The page."""
    loader = jinja2.PackageLoader("peftlab.report")
    environment = jinja2.Environment(
        loader=loader,
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: wording.tied(value) if type(value) is str else value,
    )
    environment.tests["marked"] = lambda cell: isinstance(cell, Marked)
    sections = [_section(report, number) for number in range(len(report.comparisons))]
    entries, names = report.entries, report.run_names
    page = environment.get_template("page.html.j2").render(
        report=report,
        sections=sections,
        style=Markup(FIGURE_STYLE) + _own_file(loader, environment, "page.css"),  # noqa: S704 - both are peftlab's own
        script=_own_file(loader, environment, "page.js"),
        data=_page_data(report),
        choices=report.choices(),
        sequences=[sequence_part(found) for found in report.sequences],
        label_parts=[
            (found.title, label_headline(found), label_figure(found), label_table(found))
            for found in report.label_curves
        ],
        overview=tables.overview_table(report.comparisons),
        statuses=[tables.status_table(suite, report.found) for suite in report.suites],
        guards=tables.guard_table(entries, names),
        guard_details=tables.guard_details(entries, names),
        excluded=tables.excluded_table(report.excluded),
        environment=tables.environment_table(entries),
        commands=tables.command_table(entries, names),
        memory_parts=list(MEMORY_PARTS.values()),
        detailed=DETAILED,
        most_curves=MOST_CURVES,
        most_bars=MOST_BARS,
        most_methods=MOST_METHODS,
        wording=wording,
        plural=plural,
        nothing=NOTHING_TO_COMPARE,
    )
    return f"{MARKER}\n{page.lstrip()}"


def _own_file(loader: jinja2.BaseLoader, environment: jinja2.Environment, name: str) -> Markup:
    """A file that goes into the page as it is: peftlab's own, never a user's."""
    return Markup(loader.get_source(environment, name)[0])  # noqa: S704


def _page_data(report: Report) -> dict[str, Any]:
    limits = report.limits
    comparisons = []
    for comparison in report.comparisons:
        data = choice_data(comparison)
        for row, method in zip(data["methods"], comparison.methods, strict=True):
            row["tip"] = _tip(comparison.metric, method)
        comparisons.append(data)
    return {
        "limits": {
            "memory": size_for_input(limits.memory_bytes),
            "seconds": "" if limits.seconds is None else f"{limits.seconds:g}",
            "loss": "" if limits.loss_points is None else f"{limits.loss_points:g}",
        },
        "comparisons": comparisons,
    }


def _tip(metric: str, method: Any) -> list[str]:
    costs, interval = method.costs, method.interval
    lines = [f"{metric} {wording.score(method.mean, metric)}"]
    if interval.low is not None:
        low, high = wording.score(interval.low, metric, unit=False), wording.score(interval.high, metric, unit=False)
        lines[0] += f" ({low} to {high})"
    if costs.peak_memory_bytes is not None:
        lines.append(f"{wording.size(costs.peak_memory_bytes)} peak memory")
    lines.append(
        f"{wording.rate(costs.tokens_per_second)} tokens/s, {wording.seconds(costs.train_seconds)} of training"
    )
    lines.append(f"{wording.count(costs.trainable_parameters)} trainable parameters")
    return lines


def _section(report: Report, number: int) -> Section:
    comparison = report.comparisons[number]
    basic: dict[str, Any] = {
        "number": number,
        "comparison": comparison,
        "headline": headline(comparison),
        "notices": comparison_notices(comparison),
        "ranking": ranking_table(comparison, report.published(comparison)),
        "bars": interval_bars(comparison),
        "letters": aligned_letters(comparison),
        "groups": group_table(comparison),
        "cut_note": cut_note(comparison),
        "against_best": against_best_table(comparison) if len(comparison.methods) > 1 else None,
    }
    if number >= DETAILED:
        return Section(**basic)
    tuning = report.tuning(comparison)
    classes = class_scores(comparison)
    disagreements = find_disagreements(comparison)
    return Section(
        **basic,
        matrix=matrix_table(comparison),
        pareto=pareto_figures(comparison),
        curves=learning_figures(comparison),
        history=history_table(comparison, len(comparison.methods)),
        memory_bars=memory_bars(comparison),
        memory=memory_table(comparison),
        task_parts=task_parts(comparison, MOST_CURVES),
        audits=audit_table(comparison),
        audit_differences=difference_table(comparison),
        budget=budget_figure(comparison, tuning),
        tuning=tables.tuning_table(tuning),
        trials=tables.trials_table(tuning),
        class_table=class_table(classes) if classes else None,
        confusions=_confusions(classes),
        disagreements=disagreements,
        disagreement_table=disagreement_table(disagreements) if disagreements else None,
        settings=settings_table(comparison),
    )


def _confusions(classes: Classes | None) -> list[Table]:
    if classes is None:
        return []
    return [table for scores in classes.methods if (table := confusion_table(classes, scores))]

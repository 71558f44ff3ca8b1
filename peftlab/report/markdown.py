"""The report in Markdown: the same tables and sentences as the page, without its figures."""

from __future__ import annotations

from collections.abc import Sequence

from peftlab.report import report_tables as tables
from peftlab.report.audits import audit_table, difference_table
from peftlab.report.choice import Choice
from peftlab.report.classes import class_scores
from peftlab.report.comparison import Comparison
from peftlab.report.comparison_tables import (
    against_best_table,
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
from peftlab.report.disagreement import find_disagreements
from peftlab.report.document import Report
from peftlab.report.headlines import headline
from peftlab.report.label_curves import label_headline, label_table
from peftlab.report.notices import NOTHING_TO_COMPARE, Notice, comparison_notices
from peftlab.report.sequence_parts import figures_table, score_matrix, sequence_headline
from peftlab.report.table import Table, markdown_table, markdown_text
from peftlab.report.task_parts import task_tables


def render_markdown(report: Report) -> str:
    """The report in Markdown."""
    parts = [f"# {markdown_text(report.title)}", *_notices(report.notices)]
    if not report.comparisons:
        parts.append(NOTHING_TO_COMPARE)
    for learned in report.sequences:
        parts += [f"## {markdown_text(f'Tasks in a row: {learned.title}')}", markdown_text(sequence_headline(learned))]
        parts += _table(figures_table(learned))
        for method in learned.methods:
            parts += _table(score_matrix(learned, method))
        parts += [f"- Left out: {markdown_text(line)}." for line in learned.missing]
    for curves in report.label_curves:
        parts += [f"## {markdown_text(f'Label curve: {curves.title}')}", markdown_text(label_headline(curves))]
        parts += _table(label_table(curves))
    parts += _table(tables.overview_table(report.comparisons))
    for comparison, choice in zip(report.comparisons, report.choices(), strict=True):
        parts += _comparison(report, comparison, choice)
    parts.append("## Runs")
    names = report.run_names
    for suite in report.suites:
        parts += _table(tables.status_table(suite, report.found))
    parts += _table(tables.guard_table(report.entries, names))
    parts += [f"- {markdown_text(line)}" for line in tables.guard_details(report.entries, names)]
    for table in (
        tables.excluded_table(report.excluded),
        tables.environment_table(report.entries),
        tables.command_table(report.entries, names),
    ):
        parts += _table(table)
    return "\n\n".join(parts) + "\n"


def _comparison(report: Report, comparison: Comparison, choice: Choice) -> list[str]:
    parts = [f"## {markdown_text(comparison.title)}", markdown_text(headline(comparison))]
    parts += _notices(comparison_notices(comparison))
    key = comparison.key
    rows = ", ".join(f"{number:,} {split}" for split, number in comparison.rows.items())
    facts = f"{key.task}; {key.model}; {comparison.data}; {rows}; fingerprint {key.fingerprint[:12]}"
    parts += [markdown_text(facts), *_table(ranking_table(comparison, report.published(comparison)))]
    parts += [f"**Which one for me?** {markdown_text(choice.answer)}"]
    parts += ["\n".join(f"- {markdown_text(line)}" for line in choice.evidence)] if choice.evidence else []
    if len(comparison.methods) > 1:
        parts += [*_table(group_table(comparison)), *_table(against_best_table(comparison))]
    tuning = report.tuning(comparison)
    for table in (
        matrix_table(comparison),
        memory_table(comparison),
        history_table(comparison, len(comparison.methods)),
        *task_tables(comparison),
        audit_table(comparison),
        difference_table(comparison),
        tables.tuning_table(tuning),
        tables.trials_table(tuning),
    ):
        parts += _table(table)
    classes = class_scores(comparison)
    if classes:
        parts += _table(class_table(classes))
        for scores in classes.methods:
            parts += _table(confusion_table(classes, scores))
    found = find_disagreements(comparison)
    if found:
        parts += _table(disagreement_table(found))
        parts.append(found.in_words)
    return parts + _table(settings_table(comparison))


def _notices(notices: Sequence[Notice]) -> list[str]:
    return (
        ["\n".join(f"> {'**Note.** ' * notice.warning}{markdown_text(notice.text)}\n>" for notice in notices)]
        if notices
        else []
    )


def _table(table: Table | None) -> list[str]:
    if table is None or not table.rows:
        return []
    note = [markdown_text(table.note)] if table.note else []
    return [f"### {markdown_text(table.title)}", markdown_table(table), *note]

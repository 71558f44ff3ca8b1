"""Methods compared by what audits found of their cells: errors under changed texts, fairness, calibration, alarms."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean

from peftlab.packs.audits import CellAudit, read_audits
from peftlab.report.comparison import Comparison
from peftlab.report.entry import Entry
from peftlab.report.table import Table
from peftlab.statistics.intervals import seeds_interval

Measure = Callable[[CellAudit], float | None]


def audit_table(comparison: Comparison) -> Table | None:
    """A row for each method that was audited; None where none was.

    Raises:
        UserError: The audits of a suite are damaged.
    """
    rows = [
        [name, str(len(own)), *(_shown(measure, own) for measure in MEASURES.values())]
        for name, own in _audits(comparison).items()
    ]
    if not rows:
        return None
    return Table(
        "Where each method can be trusted",
        ["method", "seeds", *MEASURES],
        rows,
        "From an audit of each cell: means over the seeds, with 95 % intervals for further seeds on the same rows. "
        "Changed texts: the mean over all perturbations after which the answer should stay. Less is better everywhere.",
    )


def audit_means(comparison: Comparison) -> dict[str, dict[str, float | None]]:
    """The same for programs: of each method that was audited, the means over the seeds.

    Raises:
        UserError: The audits of a suite are damaged.
    """
    return {
        name: {key: _mean(measure, own) for key, measure in MEASURES.items()}
        for name, own in _audits(comparison).items()
    }


def _audits(comparison: Comparison) -> dict[str, list[CellAudit]]:
    """Of each method that was audited, those of its cells."""
    folders = {entry.suite for entry in comparison.entries if entry.suite is not None}
    audits: dict[tuple[Path | None, str], CellAudit] = {
        (folder, each.cell): each for folder in folders for each in read_audits(folder)
    }
    found = {
        method.name: [audits[key] for entry in method.entries if (key := (entry.suite, _cell(entry))) in audits]
        for method in comparison.methods
    }
    return {name: own for name, own in found.items() if own}


def _mean(measure: Measure, audits: Sequence[CellAudit]) -> float | None:
    values = [value for each in audits if (value := measure(each)) is not None]
    return fmean(values) if values else None


def _cell(entry: Entry) -> str:
    return f"{entry.name}--seed{entry.seed}"


def _changed(audit: CellAudit) -> float | None:
    """Of all perturbations with a loss, which are those that should change nothing."""
    names = [name.removesuffix(".loss") for name in audit.figures if name.startswith("robustness.")]
    names = [name for name in names if f"{name}.loss" in audit.figures]
    values = [value for name in names if (value := audit.value(f"{name}.flipped")) is not None]
    return fmean(values) if values else None


def _largest_gap(audit: CellAudit) -> float | None:
    """Between two groups of names, or of words of two sexes."""
    values = [
        abs(float(figure["value"]))
        for name, figure in audit.figures.items()
        if name.startswith("fairness.") and figure["unit"] == "difference"
    ]
    return max(values, default=None)


MEASURES: dict[str, Measure] = {
    "error": lambda audit: audit.value("errors.overall"),
    "answers changed by changed texts": _changed,
    "by the worst typing errors": lambda audit: audit.value("robustness.worst_case.flipped"),
    "by another name": lambda audit: audit.value("fairness.names.changed"),
    "largest gap between groups": _largest_gap,
    "calibration error": lambda audit: audit.value("calibration.error"),
    "alarms": lambda audit: float(len(audit.alarms)),
}


def _shown(measure: Measure, audits: Sequence[CellAudit]) -> str:
    values = [value for each in audits if (value := measure(each)) is not None]
    if not values:
        return "–"
    is_count = measure is MEASURES["alarms"]
    if len(values) < 2:
        return f"{values[0]:.0f}" if is_count else f"{100 * values[0]:.1f} %"
    if is_count:
        return f"{fmean(values):.1f}"
    found = seeds_interval(values)
    return f"{100 * found.mean:.1f} % ({100 * found.low:.1f} to {100 * found.high:.1f})"

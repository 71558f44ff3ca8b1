"""Methods compared by what audits found of their cells: errors under changed texts, fairness, calibration, alarms."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from peftlab.packs.audits import CellAudit, read_audits
from peftlab.report import wording
from peftlab.report.comparison import Comparison
from peftlab.report.entry import Entry
from peftlab.report.table import Cell, Marked, Table
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


@dataclass(frozen=True)
class Difference:
    """How far a method lies above the one with the least mean, paired by seed; 0 for that one itself.

    Args:
        against: The method with the least mean.
        mean: Over the seeds that both have.
        low: Of the interval for further seeds on the same rows; None where fewer than two seeds pair.
        high: Of the same.
    """

    against: str
    mean: float
    low: float | None = None
    high: float | None = None

    @property
    def is_worse(self) -> bool:
        """Whether it is more than chance."""
        return self.low is not None and self.low > 0


def audit_differences(comparison: Comparison) -> dict[str, dict[str, Difference]]:
    """Of each method and measure the difference to the method with the least mean.

    All intervals together hold with 95 % (Bonferroni, over all that are compared).

    Raises:
        UserError: The audits of a suite are damaged.
    """
    by_method = {
        name: {_seed(each): {key: measure(each) for key, measure in MEASURES.items()} for each in own}
        for name, own in _audits(comparison).items()
    }
    level = 1 - 0.05 / max(len(MEASURES) * (len(by_method) - 1), 1)
    found: dict[str, dict[str, Difference]] = {name: {} for name in by_method}
    for key in MEASURES:
        values = {
            name: {seed: value for seed, own in seeds.items() if (value := own[key]) is not None}
            for name, seeds in by_method.items()
        }
        values = {name: own for name, own in values.items() if own}
        if len(values) < 2:
            continue
        least = min(values, key=lambda name: fmean(values[name].values()))
        for name, own in values.items():
            pairs = [value - values[least][seed] for seed, value in own.items() if seed in values[least]]
            if pairs:
                found[name][key] = _difference(least, [0.0] if name == least else pairs, level)
    return found


def _difference(least: str, pairs: Sequence[float], level: float) -> Difference:
    if len(pairs) < 2:
        return Difference(least, pairs[0])
    interval = seeds_interval(pairs, level)
    return Difference(least, interval.mean, interval.low, interval.high)


def difference_table(comparison: Comparison) -> Table | None:
    """The differences; None where fewer than two methods were audited.

    Raises:
        UserError: The audits of a suite are damaged.
    """
    found = audit_differences(comparison)
    if len(found) < 2:
        return None
    measures = [key for key in MEASURES if any(key in own for own in found.values())]
    rows: list[list[Cell]] = [
        [name, *(_apart(name, own.get(key), key) for key in measures)] for name, own in found.items()
    ]
    return Table(
        "Audits: how far above the best of each column",
        ["method", *measures],
        rows,
        "Points above the method with the least mean of the column, paired by seed; alarms are counted. All intervals "
        "hold together with 95 %, for further seeds on the same rows. A difference whose interval lies "
        "above zero is marked; of all others nothing says that they are more than chance.",
    )


def _apart(name: str, found: Difference | None, key: str) -> Cell:
    if found is None:
        return Marked(wording.NONE, "muted")
    if found.against == name:
        return Marked("least", "muted")
    scale = 1 if key == ALARMS else 100
    text = f"{scale * found.mean:+.1f}".replace("-", "−")
    if found.low is None or found.high is None:
        return text
    text += f" ({scale * found.low:.1f} to {scale * found.high:.1f})".replace("-", "−")
    return Marked(text, "bad") if found.is_worse else text


def _seed(audit: CellAudit) -> int:
    return int(audit.cell.rpartition("--seed")[2])


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


ALARMS = "alarms"
MEASURES: dict[str, Measure] = {
    "error": lambda audit: audit.value("errors.overall"),
    "answers changed by changed texts": _changed,
    "by the worst typing errors": lambda audit: audit.value("robustness.worst_case.flipped"),
    "by another name": lambda audit: audit.value("fairness.names.changed"),
    "largest gap between groups": _largest_gap,
    "calibration error": lambda audit: audit.value("calibration.error"),
    ALARMS: lambda audit: float(len(audit.alarms)),
}


def _shown(measure: Measure, audits: Sequence[CellAudit]) -> str:
    values = [value for each in audits if (value := measure(each)) is not None]
    if not values:
        return "–"
    is_count = measure is MEASURES[ALARMS]
    if len(values) < 2:
        return f"{values[0]:.0f}" if is_count else f"{100 * values[0]:.1f} %"
    # None of the measures can be below zero, and no share above one.
    found = seeds_interval(values)
    low, high = max(found.low, 0.0), found.high if is_count else min(found.high, 1.0)
    if is_count:
        return f"{found.mean:.1f} ({low:.1f} to {high:.1f})"
    return f"{100 * found.mean:.1f} % ({100 * low:.1f} to {100 * high:.1f})"

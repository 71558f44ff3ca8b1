"""Methods compared by what audits found of their cells: errors under changed texts, fairness, calibration, alarms."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from peftlab.packs.audits import CellAudit, read_audits
from peftlab.report import wording
from peftlab.report.comparison import Comparison
from peftlab.report.entry import Entry
from peftlab.report.table import Cell, Marked, Table
from peftlab.statistics.intervals import differ, seeds_interval

Measured = tuple[float, str]
"""A value, and its unit as in :data:`peftlab.core.audit.Unit`."""
Measure = Callable[[CellAudit], Measured | None]


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
        low: Of the interval for further seeds on the same rows; None where fewer than two seeds pair, or all pairs lie
            equally far apart: then nothing says how far others would.
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

    All intervals together hold with 95 % (Bonferroni). They are corrected for every pair of methods, since the figures
    themselves say which method has the least mean: corrected for the pairs with that one alone, some of twelve equal
    methods was marked in 9 to 14 % of simulated reports.

    Raises:
        UserError: The audits of a suite are damaged.
    """
    by_method = {
        name: {_seed(each): {key: _value(measure(each)) for key, measure in MEASURES.items()} for each in own}
        for name, own in _audits(comparison).items()
    }
    level = 1 - 0.05 / max(len(MEASURES) * math.comb(len(by_method), 2), 1)
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
    if not differ(pairs):
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
    units = _units(comparison)
    rows: list[list[Cell]] = [
        [name, *(_apart(name, own.get(key), units[key]) for key in measures)] for name, own in found.items()
    ]
    return Table(
        "Audits: how far above the best of each column",
        ["method", *measures],
        rows,
        "How far above the method with the least mean of the column, paired by seed: shares in points, all else in its "
        "own unit. All intervals hold together with 95 %, for further seeds on the same rows. A difference whose "
        "interval lies above zero is marked; of all others nothing says that they are more than chance.",
    )


def _apart(name: str, found: Difference | None, unit: str) -> Cell:
    if found is None:
        return Marked(wording.NONE, "muted")
    if found.against == name:
        return Marked("least", "muted")
    text = _figure(found.mean, unit, sign="+")
    if found.low is None or found.high is None:
        return text
    low, high = (found.low, found.high) if unit not in SHARES else (max(found.low, -1.0), min(found.high, 1.0))
    text += f" ({_figure(low, unit)} to {_figure(high, unit)})"
    return Marked(text, "bad") if found.is_worse else text


def _figure(value: float, unit: str, *, sign: str = "") -> str:
    form = f"{sign}.1f" if unit in (*SHARES, COUNT) else f"{sign}.3g"
    return f"{100 * value if unit in SHARES else value:{form}}".replace("-", "−")


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
    # A run with another time is another run: its audit is of a model that is gone.
    audits: dict[tuple[Path | None, str, str], CellAudit] = {
        (folder, each.cell, each.started_at): each for folder in folders for each in read_audits(folder)
    }
    found = {
        method.name: [
            audits[key] for entry in method.entries if (key := (entry.suite, _cell(entry), entry.started_at)) in audits
        ]
        for method in comparison.methods
    }
    return {name: own for name, own in found.items() if own}


def _units(comparison: Comparison) -> dict[str, str]:
    """Of each measure its unit, which is the same for all methods of a comparison: they do one task."""
    audits = [each for own in _audits(comparison).values() for each in own]
    found = {key: [measured for each in audits if (measured := measure(each))] for key, measure in MEASURES.items()}
    return {key: own[0][1] for key, own in found.items() if own}


def _values(measure: Measure, audits: Sequence[CellAudit]) -> list[float]:
    return [measured[0] for each in audits if (measured := measure(each)) is not None]


def _value(measured: Measured | None) -> float | None:
    return None if measured is None else measured[0]


def _mean(measure: Measure, audits: Sequence[CellAudit]) -> float | None:
    values = _values(measure, audits)
    return fmean(values) if values else None


def _cell(entry: Entry) -> str:
    return f"{entry.name}--seed{entry.seed}"


def _of_figure(name: str) -> Measure:
    return lambda audit: audit.measured(name)


def _changed(audit: CellAudit) -> Measured | None:
    """Of all perturbations after which the answer should stay."""
    found = [audit.measured(name) for name, figure in audit.figures.items() if _should_be_zero(name, figure, audit)]
    values = [measured[0] for measured in found if measured is not None]
    return (fmean(values), "share") if values else None


def _should_be_zero(name: str, figure: Mapping[str, Any], audit: CellAudit) -> bool:
    """Whether it is the share of answers that a perturbation changes although they should stay.

    Where the answer should move, as with a negation, neither more nor less of it is better. The searches for the worst
    words have no loss beside them.
    """
    kind, _, what = name.rpartition(".")
    is_share = kind.startswith("robustness.") and what == "flipped" and f"{kind}.loss" in audit.figures
    return is_share and figure.get("higher_is_better") is False


def _largest_gap(audit: CellAudit) -> Measured | None:
    """Between two groups of names, or of words of two sexes."""
    found = [audit.measured(name) for name in audit.figures if name.startswith("fairness.")]
    gaps = [abs(measured[0]) for measured in found if measured is not None and measured[1] == "difference"]
    return (max(gaps), "difference") if gaps else None


SHARES = ("share", "difference")
COUNT = "count"
ALARMS = "alarms"
MEASURES: dict[str, Measure] = {
    "error": _of_figure("errors.overall"),
    "answers changed by changed texts": _changed,
    "by the worst typing errors": _of_figure("robustness.worst_case.flipped"),
    "by another name": _of_figure("fairness.names.changed"),
    "largest gap between groups": _largest_gap,
    "calibration error": _of_figure("calibration.error"),
    ALARMS: lambda audit: (float(len(audit.alarms)), COUNT),
}


def _shown(measure: Measure, audits: Sequence[CellAudit]) -> str:
    found = [measured for each in audits if (measured := measure(each)) is not None]
    if not found:
        return wording.NONE
    values, unit = [value for value, _ in found], found[0][1]
    percent = " %" if unit in SHARES else ""
    if not differ(values):
        return f"{values[0]:.0f}" if unit == COUNT else f"{_figure(values[0], unit)}{percent}"
    # None of the measures can be below zero, and no share above one.
    interval = seeds_interval(values)
    low, high = max(interval.low, 0.0), min(interval.high, 1.0) if unit in SHARES else interval.high
    return f"{_figure(interval.mean, unit)}{percent} ({_figure(low, unit)} to {_figure(high, unit)})"

"""The report as CSV: a row per method and comparison, figures in full and in plain units."""

from __future__ import annotations

import csv
import io
import math
import re
from typing import Any

from peftlab.core.record import Memory
from peftlab.report.budget import budget_curve
from peftlab.report.choice import loss_bounds
from peftlab.report.comparison import COST_NAMES, Comparison, MethodResult
from peftlab.report.document import Report

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
NUMBER = r"-?\d+(\.\d+)?(e[+-]?\d+)?"


def render_csv(report: Report) -> str:
    """The report as CSV."""
    rows = [row for comparison in report.comparisons for row in _rows(report, comparison)]
    rows += [_excluded_row(item.path, item.reason) for item in report.excluded]
    columns = list(dict.fromkeys(key for row in rows for key in row))
    stream = io.StringIO()
    writer = csv.DictWriter(stream, columns, lineterminator="\n", restval="")
    writer.writeheader()
    writer.writerows({key: _safe(value) for key, value in row.items()} for row in rows)
    return stream.getvalue()


def _rows(report: Report, comparison: Comparison) -> list[dict[str, Any]]:
    curves = {result.cell: budget_curve(result) for result in report.tuning(comparison)}
    chosen = [set(choice.methods) for choice in report.choices()][list(report.comparisons).index(comparison)]
    rows = []
    for at, method in enumerate(comparison.methods):
        row = _row(comparison, at, method)
        curve = curves.get(method.cell)
        row["tuning_trials"] = len(curve.expected) if curve else ""
        row["tuning_last_gain"] = curve.last_gain if curve else ""
        row["named_for_limits"] = method.name in chosen
        row["excluded_because"] = ""
        rows.append(row)
    return rows


def _row(comparison: Comparison, at: int, method: MethodResult) -> dict[str, Any]:
    key, interval = comparison.key, method.interval
    loss, low, high = loss_bounds(comparison, at)
    memory = method.memory
    return {
        "comparison": comparison.title,
        "method": method.name,
        "rank": at + 1,
        "groups": method.letters,
        "metric": key.metric,
        "split": key.split,
        "mean": method.mean,
        "interval_low": interval.low,
        "interval_high": interval.high,
        "interval_over": str(interval.basis),
        "standard_error": interval.standard_error,
        "seed_share": interval.seed_share,
        "example_share": interval.example_share,
        "seeds": " ".join(map(str, method.seeds)),
        "scores": " ".join(map(repr, method.scores)),
        "points_behind_best": loss,
        "points_behind_low": low,
        "points_behind_high": high,
        "p_against_best": "" if at == 0 else _known(float(comparison.pairs.p_value[at, 0])),
        "p_against_best_holm": "" if at == 0 else _known(float(comparison.pairs.adjusted[at, 0])),
        **{name: getattr(method.costs, name) for name in COST_NAMES},
        **{f"memory_{name}": getattr(memory, name) if memory else "" for name in Memory.model_fields},
        "task": key.task,
        "model": key.model,
        "data": comparison.data,
        "fingerprint": key.fingerprint,
        "origin": key.origin,
        "paths": " ".join(entry.shown_path for entry in method.entries),
    }


def _known(p_value: float) -> float | str:
    return "" if math.isnan(p_value) else p_value


def _excluded_row(path: str, reason: str) -> dict[str, Any]:
    return {"paths": path, "excluded_because": reason}


def _safe(value: Any) -> Any:
    """Text that a spreadsheet would take for a formula is kept as text; scores below 0 are none."""
    if (
        not isinstance(value, str)
        or not value.startswith(FORMULA_STARTS)
        or re.fullmatch(f"{NUMBER}( {NUMBER})*", value)
    ):
        return value
    return f"'{value}"

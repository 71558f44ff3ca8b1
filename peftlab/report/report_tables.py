"""The tables of a whole report: statuses, guards, tuning, environments, commands, what is left out."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from peftlab.core.amounts import plural
from peftlab.report import wording
from peftlab.report.budget import budget_curve
from peftlab.report.comparison import LEVEL, Comparison, MethodResult
from peftlab.report.entry import Entry, Excluded
from peftlab.report.find_runs import MISSING, Found, run_statuses
from peftlab.report.suites import SuiteInfo, TuningResult
from peftlab.report.table import Cell, Marked, Table

MOST_ENVIRONMENTS = 4
KINDS = {"passed": "good", "failed": "bad", "success": "good"}


def status_table(suite: SuiteInfo, found: Found) -> Table:
    """The status of every run that a suite wants; where the report is of some of its runs alone, of these."""
    statuses = run_statuses(suite, found)
    wanted = dict.fromkeys([*(suite.planned if suite.folder in found.whole else ()), *statuses])
    seeds = sorted({seed for _, seed in wanted})
    rows: list[list[Cell]] = []
    for cell in dict.fromkeys(cell for cell, _ in wanted):
        row: list[Cell] = [cell]
        for of_seed in seeds:
            status = statuses.get((cell, of_seed), MISSING if (cell, of_seed) in wanted else "")
            row.append(Marked(status.replace("_", " "), KINDS.get(status, "bad" if status else "muted")))
        rows.append(row)
    words = frozenset(range(1, len(seeds) + 1))
    return Table(f"Runs of the suite {suite.name}", ["cell", *(f"seed {seed}" for seed in seeds)], rows, words=words)


def guard_table(entries: Sequence[Entry], names: Mapping[str, str]) -> Table | None:
    """How many runs of each name passed each guard."""
    guarded = [entry for entry in entries if entry.guards]
    if not guarded:
        return None
    guards = list(dict.fromkeys(guard for entry in guarded for guard in entry.guards))
    by_cell: dict[str, list[Entry]] = defaultdict(list)
    for entry in guarded:
        by_cell[names[entry.shown_path]].append(entry)
    rows: list[list[Cell]] = []
    for cell, runs in by_cell.items():
        row: list[Cell] = [cell, _statuses(runs)]
        row += [_guard_cell(Counter(_guard_status(run, guard) for run in runs)) for guard in guards]
        rows.append(row)
    return Table(
        "Guards and statuses",
        ["cell", "status", *(guard.replace("_", " ") for guard in guards)],
        rows,
        "How many runs passed or failed each check; – where a check has nothing to look at in that method.",
        frozenset(range(1, len(guards) + 2)),
    )


def _statuses(runs: Sequence[Entry]) -> Cell:
    counts = Counter(run.status for run in runs)
    text = ", ".join(f"{number} {status.replace('_', ' ')}" for status, number in counts.items())
    return Marked(text, "good" if set(counts) == {"success"} else "bad")


def _guard_status(entry: Entry, name: str) -> str:
    guard = entry.guards.get(name)
    if guard is None:
        return "not_applicable"
    return "waived" if guard.status == "failed" and guard.waived else guard.status


def _guard_cell(counts: Counter[str]) -> Cell:
    seen = {status: number for status, number in counts.items() if status != "not_applicable"}
    if not seen:
        return Marked(wording.NONE, "muted")
    text = ", ".join(f"{number} {status}" for status, number in seen.items())
    return Marked(text, "good" if set(seen) == {"passed"} else "bad")


def guard_details(entries: Sequence[Entry], names: Mapping[str, str]) -> list[str]:
    """What was seen where a guard failed."""
    return [
        f"{names[entry.shown_path]}, seed {entry.seed}: {check} {'is waived' if guard.waived else 'failed'}: "
        f"{guard.detail}"
        for entry in entries
        for check, guard in entry.guards.items()
        if guard.status == "failed"
    ]


def tuning_table(results: Sequence[TuningResult]) -> Table | None:
    """What tuning tried and chose, and what the last trial was worth."""
    rows: list[list[Cell]] = []
    for result in results:
        curve = budget_curve(result)
        if curve is None:
            continue
        chosen = ", ".join(f"{key} {_setting(value)}" for key, value in result.chosen.items())
        sizes = " → ".join(f"{len(rung.trials)} × {_examples(rung.train_examples)}" for rung in result.rungs)
        rows.append(
            [
                result.cell,
                sizes,
                str(curve.failed),
                *(wording.score(value, result.metric) for value in (curve.expected[0], curve.expected[-1])),
                wording.points(curve.last_gain, result.metric).replace("+", ""),
                chosen or wording.NONE,
            ]
        )
    if not rows:
        return None
    return Table(
        "Tuning",
        ["cell", "trials × examples", "failed", "expected after 1 trial", "after all", "last trial's gain", "chosen"],
        rows,
        "Scores are of the validation split at the first rung. The gain of the last trial, in points, says whether "
        "more trials would have paid.",
        frozenset({1, 6}),
    )


def trials_table(results: Sequence[TuningResult]) -> Table | None:
    """Every trial, with its score at each rung it reached."""
    depth = max((len(result.rungs) for result in results), default=0)
    rows: list[list[Cell]] = []
    for result in results:
        for trial in result.rungs[0].trials if result.rungs else []:
            setting = ", ".join(f"{key} {_setting(value)}" for key, value in trial.parameters.items())
            row: list[Cell] = [result.cell, setting]
            for level in range(depth):
                trials = result.rungs[level].trials if level < len(result.rungs) else []
                at_rung = next((item for item in trials if item.number == trial.number), None)
                row.append(
                    _trial_cell(at_rung.score, at_rung.status, result.metric) if at_rung else Marked("", "muted")
                )
            rows.append(row)
    if not rows:
        return None
    return Table(
        "All trials", ["cell", "setting", *(f"rung {level + 1}" for level in range(depth))], rows, words=frozenset({1})
    )


def _trial_cell(score: float | None, status: str, metric: str) -> Cell:
    return Marked(status.replace("_", " "), "bad") if score is None else wording.score(score, metric)


def _setting(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _examples(number: int | None) -> str:
    return "all examples" if number is None else f"{number:,}"


def environment_table(entries: Sequence[Entry]) -> Table | None:
    """Versions and devices; a column for each environment that occurs."""
    counts = Counter(tuple(sorted(entry.environment.items())) for entry in entries if entry.environment)
    if not counts:
        return None
    shown = [dict(environment) for environment, _ in counts.most_common(MOST_ENVIRONMENTS)]
    keys = list(dict.fromkeys(key for environment in shown for key in environment))
    rows: list[list[Cell]] = [[key, *(environment.get(key, wording.NONE) for environment in shown)] for key in keys]
    heads = [plural(number, "run") for _, number in counts.most_common(MOST_ENVIRONMENTS)]
    left = len(counts) - len(shown)
    note = f"Fewer runs have {plural(left, 'other environment')}." if left > 0 else ""
    return Table("Environment", ["", *heads], rows, note, frozenset(range(1, len(shown) + 1)))


def command_table(entries: Sequence[Entry], names: Mapping[str, str]) -> Table:
    """What reproduces each run."""
    rows: list[list[Cell]] = [
        [names[entry.shown_path], str(entry.seed), entry.started_at, entry.command] for entry in entries
    ]
    return Table("Reproduce", ["cell", "seed", "started", "command"], rows, words=frozenset({2, 3}))


def excluded_table(excluded: Sequence[Excluded]) -> Table | None:
    """What is left out, and why."""
    if not excluded:
        return None
    rows: list[list[Cell]] = [[item.path, item.reason] for item in excluded]
    return Table("Left out", ["path", "reason"], rows, words=frozenset({1}))


def overview_table(comparisons: Sequence[Comparison]) -> Table | None:
    """All comparisons of a report, with what each came to."""
    if len(comparisons) < 2:
        return None
    rows: list[list[Cell]] = []
    for comparison in comparisons:
        best = comparison.methods[0]
        alike = [method.label for method in tied_with_best(comparison)[1:]]
        rows.append(
            [
                comparison.title,
                str(len(comparison.methods)),
                best.label,
                wording.score(best.mean, comparison.metric),
                wording.listing(alike) or wording.NONE,
            ]
        )
    columns = ["comparison", "methods", "best mean", "score", "not told apart from it"]
    return Table("Comparisons", columns, rows, words=frozenset({2, 4}))


def tied_with_best(comparison: Comparison) -> list[MethodResult]:
    """The best method, and all that a test has not told apart from it."""
    adjusted = comparison.pairs.adjusted[0]
    return [method for at, method in enumerate(comparison.methods) if at == 0 or adjusted[at] >= LEVEL]


def untested_against_best(comparison: Comparison) -> list[MethodResult]:
    """The methods that no test compares with the best."""
    adjusted = comparison.pairs.adjusted[0]
    return [method for at, method in enumerate(comparison.methods) if at and math.isnan(adjusted[at])]

"""A report before it has a format: what was found, compared, chosen and left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from peftlab.report.audits import audit_differences, audit_means
from peftlab.report.choice import Choice, Limits, choose
from peftlab.report.comparison import Comparison, MethodResult, build_comparisons
from peftlab.report.entry import Entry, Excluded
from peftlab.report.find_runs import Found, read_folders
from peftlab.report.headlines import headline
from peftlab.report.label_curves import LabelCurves, label_curves, label_curves_json
from peftlab.report.naming import run_names
from peftlab.report.notices import Notice, comparison_notices, report_notices
from peftlab.report.sequences import LearnedTasks, learned_tasks, sequences_json
from peftlab.report.suites import Published, SuiteInfo, TuningResult
from peftlab.report.titles import report_title


@dataclass(frozen=True)
class Report:
    """Everything that a format writes."""

    title: str
    found: Found
    comparisons: Sequence[Comparison]
    excluded: Sequence[Excluded]
    notices: Sequence[Notice]
    limits: Limits

    @cached_property
    def sequences(self) -> Sequence[LearnedTasks]:
        """The sequences of tasks of the suites."""
        return learned_tasks(self.entries, self.suites)

    @cached_property
    def label_curves(self) -> Sequence[LabelCurves]:
        """The label curves of the suites."""
        return label_curves(self.entries, self.suites)

    @property
    def entries(self) -> Sequence[Entry]:
        """Every run that could be read."""
        return self.found.entries

    @property
    def run_names(self) -> dict[str, str]:
        """What each run is called in tables, by the path that is shown."""
        methods = [method for comparison in self.comparisons for method in comparison.methods]
        return run_names(self.entries, {entry.shown_path: m.name for m in methods for entry in m.entries})

    @property
    def suites(self) -> Sequence[SuiteInfo]:
        """The suites that runs are cells of."""
        return list(self.found.suites.values())

    def published(self, comparison: Comparison) -> dict[str, Published]:
        """Figures of papers, by cell; a figure of a method holds for its cells too."""
        figures: dict[str, Published] = {}
        for entry in comparison.entries:
            if entry.suite is not None:
                known = self.found.suites[entry.suite].published
                figure = known.get(entry.name) or known.get(entry.method)
                if figure:
                    figures[entry.name] = figure
        return figures

    def tuning(self, comparison: Comparison) -> list[TuningResult]:
        """How the cells of a comparison were tuned, best method first."""
        results = []
        for method in comparison.methods:
            suite = method.entries[0].suite
            if suite is not None and (result := self.found.suites[suite].results.get(method.cell)):
                results.append(result)
        return results

    def choices(self) -> list[Choice]:
        """The answer to "which one for me?" in each comparison."""
        return [choose(comparison, self.limits) for comparison in self.comparisons]


def build_report(
    directories: Sequence[Path | str],
    *,
    base: Path | None = None,
    metric: str | None = None,
    limits: Limits | None = None,
) -> Report:
    """Read, compare, choose.

    Args:
        directories: Folders of runs, of suites, or with such folders in them.
        base: Paths below it are shown relative to it.
        metric: What to rank by; None: what each run was judged by.
        limits: What a method may take.

    Raises:
        UserError: Nothing can be read, or no run has the metric.
    """
    found = read_folders([Path(directory) for directory in directories], base=base)
    comparisons, left_out, shifts = build_comparisons(found.entries, metric)
    excluded = [*found.excluded, *left_out]
    notices = report_notices(found, comparisons, excluded, shifts)
    return Report(_title(found, comparisons), found, comparisons, excluded, notices, limits or Limits())


def _title(found: Found, comparisons: Sequence[Comparison]) -> str:
    methods = sum(len(comparison.methods) for comparison in comparisons)
    return report_title(found.entries, [suite.name for suite in found.suites.values()], methods, len(comparisons))


def report_json(report: Report) -> dict[str, Any]:
    """The report for programs.

    ``groups`` are lists of cell names, best first; ``methods`` has mean, interval and cost of each cell; ``excluded``
    lists what is not compared, with the reason; ``sequences`` has matrix and figures of each method of tasks in a row;
    ``label_curves`` has the scores by the number of labels.
    A cell's name is the run's, with what tells it from others of the name.
    """
    choices = report.choices()
    return {
        "groups": [group for comparison in report.comparisons for group in comparison.groups],
        "methods": {
            method.name: _method_json(method, comparison)
            for comparison in report.comparisons
            for method in comparison.methods
        },
        "excluded": [asdict(item) for item in report.excluded],
        "comparisons": [
            {
                "title": comparison.title,
                **asdict(comparison.key),
                "headline": headline(comparison),
                "groups": comparison.groups,
                "methods": [method.name for method in comparison.methods],
                "notices": [notice.text for notice in comparison_notices(comparison)],
                "choice": asdict(choice),
                "audits": audit_means(comparison),
                "audit_differences": {
                    name: {key: asdict(own) for key, own in differences.items()}
                    for name, differences in audit_differences(comparison).items()
                },
            }
            for comparison, choice in zip(report.comparisons, choices, strict=True)
        ],
        "sequences": sequences_json(report.sequences),
        "label_curves": label_curves_json(report.label_curves),
        "notices": [notice.text for notice in report.notices],
    }


def _method_json(method: MethodResult, comparison: Comparison) -> dict[str, Any]:
    interval = method.interval
    return {
        "comparison": comparison.title,
        "metric": comparison.metric,
        "mean": method.mean,
        "interval": [interval.low, interval.high],
        "interval_over": str(interval.basis),
        "standard_error": interval.standard_error,
        "seed_share": interval.seed_share,
        "example_share": interval.example_share,
        "letters": method.letters,
        "seeds": method.seeds,
        "scores": list(method.scores),
        "cost": asdict(method.costs),
        "memory": method.memory.model_dump() if method.memory else None,
    }

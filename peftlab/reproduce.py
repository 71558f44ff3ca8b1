"""``peftlab reproduce``: run a record's recipe again and say, figure by figure, whether it agrees.

On the same machine with the same versions a run gives the same scores to the last bit, and anything else is a
disagreement. Elsewhere floating-point sums come out in another order; there a score agrees when it lies in the 95 %
interval that the record's own test examples imply.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from peftlab.config import Document
from peftlab.errors import UserError
from peftlab.interfaces import Reporter
from peftlab.measurement.example_intervals import intervals_of_file
from peftlab.packs.runs import read_run_record
from peftlab.recipe import build_recipe
from peftlab.record import RunRecord
from peftlab.run import run_recipe

Verdict = Literal["identical", "inside", "outside", "differs", "unjudged"]
AGREES: frozenset[Verdict] = frozenset({"identical", "inside", "unjudged"})
ENVIRONMENT_KEYS = ("python", "platform", "versions", "device", "threads", "commit")


@dataclass(frozen=True)
class Figure:
    """One figure of two runs.

    Args:
        name: Such as ``test accuracy``.
        before: Of the record.
        now: Of the run made again.
        verdict: ``identical``; ``inside`` or ``outside`` of the interval; ``differs`` where nothing but identity will
            do; ``unjudged`` where the metric has no interval over examples.
        interval: Of the record's score.
    """

    name: str
    before: Any
    now: Any
    verdict: Verdict
    interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class Reproduction:
    """Whether a record holds.

    Args:
        agrees: No figure is outside of what was to be expected.
        same_environment: Versions, device and threads are those of the record.
        differences: Between the two environments.
        figures: That decide.
        costs: Speed, memory and time of both runs, and their ratio; they do not decide.
        folder: Of the run made again.
    """

    agrees: bool
    same_environment: bool
    differences: list[str]
    figures: list[Figure]
    costs: dict[str, dict[str, float]]
    folder: Path

    def as_json(self) -> dict[str, Any]:
        """For ``--json``."""
        return {**asdict(self), "folder": str(self.folder)}


def reproduce(
    run: Path, *, output_dir: Path | None = None, offline: bool = False, reporter: Reporter | None = None
) -> Reproduction:
    """Run a record's recipe again.

    Args:
        run: The folder of a run that ended with success.
        output_dir: Of the run made again; None: ``runs/<name>-<UTC time>``.
        offline: Allow no network.
        reporter: Tells a person what is going on.

    Raises:
        UserError: There is no record of a successful run.
    """
    before = read_run_record(run)
    if before.status != "success":
        raise UserError(
            f"the run ended as `{before.status}`; only one that ended with success has scores to agree with",
            where=str(run),
        )
    document = Document(source=str(run / "record.json"), values=before.recipe, folder=run)
    recipe = build_recipe(document, default_name=before.name)
    result = run_recipe(recipe, document, output_dir=output_dir, offline=offline, reporter=reporter)
    return compare_records(before, result.record, intervals=score_intervals(run, before), folder=result.folder)


def compare_records(
    before: RunRecord, now: RunRecord, *, intervals: Mapping[tuple[str, str], tuple[float, float]], folder: Path
) -> Reproduction:
    """Compare two records of one recipe.

    Args:
        before: The one to be confirmed.
        now: Of the run made again.
        intervals: By split and metric.
        folder: Of the run made again.
    """
    differences = _differences(before.environment, now.environment)
    same = not differences
    figures = [
        _exact("status", before.status, now.status),
        _exact("data fingerprint", _fingerprint(before), _fingerprint(now)),
        _exact("trainable parameters", _trainable(before), _trainable(now)),
    ]
    if same:
        figures.append(_exact("initial adapter", before.initial_adapter_sha256, now.initial_adapter_sha256))
        figures.append(_exact("best step", before.best_step, now.best_step))
    for split, scores in before.scores.items():
        for metric, value in scores.items():
            again = now.scores.get(split, {}).get(metric)
            figures.append(_score(f"{split} {metric}", value, again, intervals.get((split, metric)), exact=same))
    return Reproduction(
        agrees=all(figure.verdict in AGREES for figure in figures),
        same_environment=same,
        differences=differences,
        figures=figures,
        costs=_costs(before, now),
        folder=folder,
    )


def score_intervals(run: Path, record: RunRecord) -> dict[tuple[str, str], tuple[float, float]]:
    """The 95 % interval of every score that has one, over the examples that the run has stored."""
    path = run / "predictions.parquet"
    if not path.exists():
        return {}
    return {
        (split, metric): interval
        for split, scores in record.scores.items()
        for metric, interval in intervals_of_file(path, split, scores).items()
        if interval is not None
    }


def _exact(name: str, before: Any, now: Any) -> Figure:
    return Figure(name, before, now, "identical" if before == now else "differs")


def _score(name: str, before: float, now: float | None, interval: tuple[float, float] | None, *, exact: bool) -> Figure:
    if before == now:
        return Figure(name, before, now, "identical", interval)
    if exact or now is None:
        return Figure(name, before, now, "differs", interval)
    if interval is None:
        return Figure(name, before, now, "unjudged")
    return Figure(name, before, now, "inside" if interval[0] <= now <= interval[1] else "outside", interval)


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    found = []
    for key in ENVIRONMENT_KEYS:
        old, new = before.get(key), now.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            found += [f"{key}.{name}" for name in sorted(old.keys() | new.keys()) if old.get(name) != new.get(name)]
        elif old != new:
            found.append(key)
    if before.get("uncommitted_changes") or now.get("uncommitted_changes"):
        found.append("uncommitted changes")
    return found


def _fingerprint(record: RunRecord) -> str | None:
    return record.data.fingerprint if record.data else None


def _trainable(record: RunRecord) -> int | None:
    return record.parameters.trainable if record.parameters else None


def _costs(before: RunRecord, now: RunRecord) -> dict[str, dict[str, float]]:
    pairs = {
        "peak_memory_bytes": (_peak(before), _peak(now)),
        "tokens_per_second": (_speed(before), _speed(now)),
        "seconds": (before.seconds, now.seconds),
    }
    return {
        name: {"before": old, "now": new, "ratio": new / old}
        for name, (old, new) in pairs.items()
        if old is not None and new is not None and old > 0
    }


def _peak(record: RunRecord) -> float | None:
    return record.memory.peak_bytes if record.memory else None


def _speed(record: RunRecord) -> float | None:
    return record.throughput.tokens_per_second if record.throughput else None

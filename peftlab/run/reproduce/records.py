"""Two records of one recipe, figure by figure: what agrees, what differs, and what cannot be judged.

On the same machine with the same versions a run gives the same scores to the last bit, and anything else is a
disagreement. Elsewhere, and on a GPU with ``training.deterministic: false``, floating-point sums come out in another
order; there a score agrees when the answers to the same examples differ by no more than chance (``pairing.py``). A
score that cannot be judged does not agree.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from peftlab.core.record import RunRecord
from peftlab.run.reproduce.pairing import MakeScorer, PairedAnswers, Unjudged, agree, read_answers
from peftlab.statistics.pairs import holm

if TYPE_CHECKING:
    import pyarrow as pa

Verdict = Literal["identical", "inside", "outside", "differs", "unjudged"]
Outcome = Literal["agrees", "differs", "cannot be judged"]
LEVEL = 0.05
ENVIRONMENT_KEYS = ("python", "platform", "versions", "device", "threads", "commit")


@dataclass(frozen=True)
class Figure:
    """One figure of two runs.

    Args:
        name: Such as ``test accuracy``.
        before: Of the record.
        now: Of the run made again.
        verdict: ``identical``; ``inside`` or ``outside`` of what chance explains; ``differs`` where nothing but
            identity will do; ``unjudged`` where neither can be said.
        difference: Of a score: the new one less the old one.
        interval: Of the difference, at 95 %, over the examples.
        p_value: Of no difference, after Holm's correction for all scores of the record.
        reason: Of the verdict, where it needs one; or why its interval is too narrow.
    """

    name: str
    before: Any
    now: Any
    verdict: Verdict
    difference: float | None = None
    interval: tuple[float, float] | None = None
    p_value: float | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Reproduction:
    """Whether a record holds.

    Args:
        verdict: ``agrees``: every figure does. ``differs``: one does not. ``cannot be judged``: none differs, but of
            one it cannot be said.
        same_environment: Versions, device and threads are those of the record, and neither run was free to differ.
        differences: Between the two environments.
        figures: That decide.
        predictions: By split: how many examples there are, and on how many both runs predict the same.
        costs: Speed, memory and time of both runs, and their ratio; they do not decide.
        folder: Of the run made again.
    """

    verdict: Outcome
    same_environment: bool
    differences: list[str]
    figures: list[Figure]
    predictions: dict[str, dict[str, int]]
    costs: dict[str, dict[str, float]]
    folder: Path

    @property
    def agrees(self) -> bool:
        """Whether every figure agrees."""
        return self.verdict == "agrees"

    def as_json(self) -> dict[str, Any]:
        """For ``--json``."""
        return {"agrees": self.agrees, **asdict(self), "folder": str(self.folder)}


def compare_records(
    before: RunRecord,
    now: RunRecord,
    *,
    predictions: tuple[pa.Table | None, pa.Table | None],
    make_scorer: MakeScorer,
    folder: Path,
) -> Reproduction:
    """Compare two records of one recipe.

    Args:
        before: The one to be confirmed.
        now: Of the run made again.
        predictions: Of both runs; None where one has stored none.
        make_scorer: Gives the metrics of the recipe's task.
        folder: Of the run made again.
    """
    differences = _differences(before.environment, now.environment)
    same = not differences
    figures = [
        _exact("status", before.status, now.status),
        _exact("data fingerprint", _fingerprint(before), _fingerprint(now)),
        _exact("trainable parameters", _trainable(before), _trainable(now)),
    ]
    if _added_rows(before) or _added_rows(now):
        figures.append(_exact("rows added by augmentation", _added_rows(before), _added_rows(now)))
    if same:
        figures.append(_exact("initial adapter", before.initial_adapter_sha256, now.initial_adapter_sha256))
        figures.append(_exact("best step", before.best_step, now.best_step))
    shares: dict[str, dict[str, int]] = {}
    for split, scores in before.scores.items():
        paired = _pair(predictions, split, make_scorer)
        if isinstance(paired, PairedAnswers):
            figures += _answers(split, paired, exact=same)
            if paired.mismatch is None:
                shares[split] = {"examples": len(paired.before.index), "same": paired.same}
        again = now.scores.get(split, {})
        for metric, value in scores.items():
            figures.append(_score(f"{split} {metric}", metric, value, again.get(metric), paired, exact=same))
    figures = _corrected(figures)
    return Reproduction(
        verdict=_outcome({figure.verdict for figure in figures}),
        same_environment=same,
        differences=differences,
        figures=figures,
        predictions=shares,
        costs=_costs(before, now),
        folder=folder,
    )


def _outcome(verdicts: set[Verdict]) -> Outcome:
    if verdicts & {"differs", "outside"}:
        return "differs"
    return "cannot be judged" if "unjudged" in verdicts else "agrees"


def _exact(name: str, before: Any, now: Any) -> Figure:
    return Figure(name, before, now, "identical" if before == now else "differs")


def _pair(
    predictions: tuple[pa.Table | None, pa.Table | None], split: str, make_scorer: MakeScorer
) -> PairedAnswers | Unjudged:
    before, now = (read_answers(table, split) for table in predictions)
    if before is None or now is None:
        which = "record" if before is None else "new run"
        return Unjudged(f"the {which} has no predictions of the {split} split to compare with")
    return PairedAnswers(before, now, make_scorer)


def _answers(split: str, paired: PairedAnswers, *, exact: bool) -> list[Figure]:
    """The answers as a figure of their own, where they decide."""
    counts = (len(paired.before.index), len(paired.now.index))
    if paired.identical:
        return [Figure(f"{split} predictions", *counts, "identical")]
    if paired.mismatch is not None:
        return [Figure(f"{split} predictions", *counts, "differs", reason=paired.mismatch)]
    if exact:
        reason = f"{counts[0] - paired.same} of {counts[0]} predictions are others; of the rest, scores may be"
        return [Figure(f"{split} predictions", *counts, "differs", reason=reason)]
    return []


def _score(
    name: str, metric: str, before: float, now: float | None, paired: PairedAnswers | Unjudged, *, exact: bool
) -> Figure:
    if now is None:
        return Figure(name, before, now, "differs", reason="the new run has no such score")
    contradiction = _contradiction(metric, before, now, paired)
    if contradiction is not None:
        return Figure(name, before, now, "differs", now - before, reason=contradiction)
    if before == now:
        return Figure(name, before, now, "identical")
    if exact:
        return Figure(name, before, now, "differs", now - before)
    if isinstance(paired, Unjudged):
        return Figure(name, before, now, "unjudged", now - before, reason=paired.reason)
    if paired.mismatch is not None:
        return Figure(name, before, now, "unjudged", now - before, reason="the predictions are of other examples")
    if agree(before, now):
        return Figure(name, before, now, "inside", now - before, reason="equal but for rounding")
    found = paired.compare(metric)
    if isinstance(found, Unjudged):
        return Figure(name, before, now, "unjudged", now - before, reason=found.reason)
    reason = " ".join(found.notes) or None
    return Figure(name, before, now, "inside", now - before, (found.low, found.high), found.p_value, reason)


def _contradiction(metric: str, before: float, now: float, paired: PairedAnswers | Unjudged) -> str | None:
    """What is wrong where a score is not that of its own run's predictions."""
    if isinstance(paired, Unjudged) or isinstance(paired.recomputed, Unjudged):
        return None
    named = (("record", before, paired.recomputed[0]), ("new run", now, paired.recomputed[1]))
    for which, score, scores in named:
        if metric in scores and not agree(score, scores[metric]):
            return f"the {which} says {score:.6g}, and its own predictions say {scores[metric]:.6g}"
    if paired.identical and not agree(before, now):
        return "the predictions are the same, and the score is not"
    return None


def _corrected(figures: list[Figure]) -> list[Figure]:
    """Verdicts of the tested scores, all of them together: of many, one in twenty would lie outside by chance."""
    adjusted = iter(holm([figure.p_value for figure in figures if figure.p_value is not None]))
    return [figure if figure.p_value is None else _judged(figure, next(adjusted)) for figure in figures]


def _judged(figure: Figure, p_value: float) -> Figure:
    return replace(figure, p_value=p_value, verdict="inside" if p_value >= LEVEL else "outside")


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    found = []
    for key in ENVIRONMENT_KEYS:
        old, new = before.get(key), now.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            found += [f"{key}.{name}" for name in sorted(old.keys() | new.keys()) if old.get(name) != new.get(name)]
        elif old != new:
            found.append(key)
    if before.get("processes", 1) != now.get("processes", 1):  # older records lack it
        found.append("processes")
    if before.get("uncommitted_changes") or now.get("uncommitted_changes"):
        found.append("uncommitted changes")
    if None not in (tf32 := [before.get("tf32"), now.get("tf32")]) and tf32[0] != tf32[1]:  # older records lack it
        found.append("tf32")
    if False in (before.get("determinism"), now.get("determinism")):
        found.append("training.deterministic is false")
    return found


def _added_rows(record: RunRecord) -> str | None:
    return record.data.added_rows_fingerprint if record.data else None


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

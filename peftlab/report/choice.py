"""Which one for me? The methods that fit some limits, with the evidence; or that the data does not decide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from peftlab.estimate.target import UNITS, parse_memory
from peftlab.report import wording
from peftlab.report.comparison import LEVEL, Comparison, MethodResult

MOST = 12
"""So many methods are named in a sentence, or with their evidence."""
ONE_SEED = " With one seed a method, another seed may change this."
TIED_NEAR, DIFFERENT, TIED_FAR, UNTESTED = "0123"
"""How the page is told of a pair of methods."""


@dataclass(frozen=True)
class Limits:
    """What a method may take.

    Args:
        memory_bytes: Peak memory of training.
        seconds: Of training.
        loss_points: How far the mean score may lie behind the best method's, in points.
    """

    memory_bytes: float | None = None
    seconds: float | None = None
    loss_points: float | None = None

    @property
    def any(self) -> bool:
        """Whether there is a limit at all."""
        return (self.memory_bytes, self.seconds, self.loss_points) != (None, None, None)


@dataclass(frozen=True)
class Choice:
    """An answer.

    Args:
        decided: Whether the data names the methods.
        methods: Names that fit, best mean first; where nothing is decided, those that may.
        answer: One or two sentences.
        evidence: A line for each method that is named.
    """

    decided: bool
    methods: list[str]
    answer: str
    evidence: list[str] = field(default_factory=list)


def parse_size(text: str) -> float:
    """Bytes from ``400MB``, ``8 GB`` or ``1.5GiB``.

    Raises:
        UserError: It is no size, or has no unit.
    """
    return float(parse_memory(text, where="--max-memory"))


def size_for_input(value: float | None) -> str:
    """Bytes as :func:`parse_size` reads them: ``400MB``."""
    if value is None:
        return ""
    unit = next(unit for unit in ("TB", "GB", "MB", "KB", "B") if value % UNITS[unit] == 0)
    return f"{value / UNITS[unit]:.0f}{unit}"


def choose(comparison: Comparison, limits: Limits) -> Choice:
    """Name the methods that fit.

    Memory is held against the greatest peak of the seeds, time against the mean over them. A loss fits where the 95 %
    interval of the distance to the best method ends within the limit, and does not fit where it begins beyond it;
    in between the data does not decide. Without such a limit, the best method that fits is named, and every other one
    that fits and cannot be told apart from it, or that no test compares with it; which of them is cheapest is said only
    of those within a point of the best mean, since what is not told apart may still be far behind. ``page.js`` does the
    same for the page's inputs.

    Args:
        comparison: Methods, best first, with the tests between them.
        limits: Any of them may be left out.
    """
    choice = _choose(comparison, limits)
    return replace(choice, answer=choice.answer + caveat(comparison)) if choice.methods else choice


def caveat(comparison: Comparison) -> str:
    """What stands behind every answer that names methods."""
    single = comparison.single
    if not single or len(comparison.methods) == len(single):
        return ONE_SEED if single else ""
    has = "has one seed" if len(single) == 1 else "have one seed each"
    return f" {wording.listing(single, MOST)} {has}: another seed may change this."


def _choose(comparison: Comparison, limits: Limits) -> Choice:
    methods = comparison.methods
    fitting = [at for at, method in enumerate(methods) if _fits(method, limits)]
    unknown = [at for at, method in enumerate(methods) if _is_unknown(method, limits)]
    if not fitting:
        answer = "No method fits these limits." if not unknown else "No method is known to fit these limits."
        return Choice(not unknown, [], answer + _unknown_sentence(methods, unknown))
    if limits.loss_points is None:
        return _best_of(comparison, fitting, unknown, limits)
    return _within_loss(comparison, fitting, unknown, limits.loss_points)


def _fits(method: MethodResult, limits: Limits) -> bool:
    return _below(method.peak_memory_bytes, limits.memory_bytes) and _below(method.costs.train_seconds, limits.seconds)


def _below(value: float | None, limit: float | None) -> bool:
    return limit is None or (value is not None and value <= limit)


def _is_unknown(method: MethodResult, limits: Limits) -> bool:
    """A figure that a limit needs was not measured, and no other limit rules the method out."""
    pairs = ((method.peak_memory_bytes, limits.memory_bytes), (method.costs.train_seconds, limits.seconds))
    missing = any(limit is not None and value is None for value, limit in pairs)
    return missing and all(limit is None or value is None or value <= limit for value, limit in pairs)


def _best_of(comparison: Comparison, fitting: list[int], unknown: list[int], limits: Limits) -> Choice:
    best = fitting[0]
    relations = {at: relation(comparison, best, at) for at in fitting[1:]}
    near, far, untested = (
        [at for at, found in relations.items() if found == wanted] for wanted in (TIED_NEAR, TIED_FAR, UNTESTED)
    )
    methods = comparison.methods
    label, that_fit = methods[best].label, " of the methods that fit" if limits.any else ""
    undecided = f"The data does not decide: {label} has the best mean{that_fit}; "
    if near or far:
        distance = distance_words(comparison)
        answer = undecided + _tied_sentence(_labels(methods, near), _labels(methods, far), len(far), distance)
        if near:
            of_these = f" Of those within {distance}, " if far else " Of these, "
            answer += _cheapest_sentence([methods[at] for at in (best, *near)], of_these)
        if untested:
            answer += f" No test compares {_labels(methods, untested)} with {label}."
    elif untested:
        answer = f"{undecided}no test compares {_labels(methods, untested)} with it."
    elif len(fitting) == 1:
        answer = f"{label}: it is the only method{' that fits' if limits.any else ''}."
    else:
        answer = f"{label}: it is the best{that_fit}, and every other one is worse."
    answer += _unknown_sentence(methods, unknown)
    named = sorted([best, *near, *far, *untested])
    return Choice(len(named) == 1, _names(methods, named), answer, _evidence(comparison, named))


def _tied_sentence(near: str, far: str, many_far: int, distance: str) -> str:
    lie = f"{'lies' if many_far == 1 else 'lie'} more than {distance} behind"
    if not far:
        return f"{near} cannot be told apart from it."
    if not near:
        return f"{far} cannot be told apart from it, but {lie}."
    return f"{near} cannot be told apart from it, nor can {far}, which {lie}."


def relation(comparison: Comparison, best: int, at: int) -> str:
    """Whether a method differs from a better one, or else lies near it or far behind; or no test tells."""
    adjusted = comparison.pairs.adjusted[best, at]
    if np.isnan(adjusted) and best != at:
        return UNTESTED
    if adjusted < LEVEL:
        return DIFFERENT
    methods = comparison.methods
    near = wording.near(comparison.metric, methods[best].mean)
    return TIED_NEAR if abs(methods[best].mean - methods[at].mean) <= near * (1 + 1e-9) else TIED_FAR


def distance_words(comparison: Comparison) -> str:
    """How far behind a method may lie to be near: ``1 point``."""
    return "1 point" if wording.is_bounded(comparison.metric) else "1 %"


def _within_loss(comparison: Comparison, fitting: list[int], unknown: list[int], points: float) -> Choice:
    bounds = {at: loss_bounds(comparison, at) for at in fitting}
    within = [at for at, (_, _, high) in bounds.items() if high is not None and high <= points]
    perhaps = [at for at, (_, low, _) in bounds.items() if at not in within and (low is None or low <= points)]
    methods = comparison.methods
    left_out = _unknown_sentence(methods, unknown)
    if within:
        verbs = "fits, and loses" if len(within) == 1 else "fit, and lose"
        answer = f"{_labels(methods, within)}: {verbs} at most {_points(points)}."
        answer += _cheapest_sentence([methods[at] for at in within], " Of these, ")
        if perhaps:
            answer += f" The data does not decide whether {_labels(methods, perhaps)} would do too."
        return Choice(True, _names(methods, within), answer + left_out, _evidence(comparison, within + perhaps))
    if perhaps:
        verb = "fits" if len(perhaps) == 1 else "fit"
        named = f"{_labels(methods, perhaps)} {verb}"
        answer = f"The data does not decide: {named}, and may lose more or less than {_points(points)}."
        return Choice(False, _names(methods, perhaps), answer + left_out, _evidence(comparison, perhaps))
    answer = f"No method fits these limits: all that fit otherwise lose more than {_points(points)}."
    return Choice(not unknown, [], answer + left_out)


def _points(points: float) -> str:
    return f"{points:g} point" if points == 1 else f"{points:g} points"


def loss_bounds(comparison: Comparison, at: int) -> tuple[float, float | None, float | None]:
    """How far a method lies behind the best one, in points, and the ends of the 95 % interval."""
    if at == 0:
        return 0.0, 0.0, 0.0
    sign = 1 / wording.point_size(comparison.metric)
    pairs = comparison.pairs
    difference, low, high = pairs.difference[0, at] * sign, pairs.low[0, at] * sign, pairs.high[0, at] * sign
    if wording.lower_is_better(comparison.metric):
        difference, low, high = -difference, -high, -low
    return float(difference), _known(low), _known(high)


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _cheapest_sentence(methods: Sequence[MethodResult], of_these: str) -> str:
    if len(methods) < 2:
        return ""
    in_memory = [method for method in methods if method.peak_memory_bytes is not None]
    in_time = [method for method in methods if method.costs.train_seconds is not None]
    wants: dict[str, list[str]] = {}
    if in_memory:
        least = min(in_memory, key=lambda method: method.peak_memory_bytes or 0)
        wants.setdefault(least.label, []).append(f"the least memory ({wording.size(least.peak_memory_bytes)})")
    if in_time:
        fastest = min(in_time, key=lambda method: method.costs.train_seconds or 0)
        wants.setdefault(fastest.label, []).append(f"the least time ({wording.seconds(fastest.costs.train_seconds)})")
    parts = [f"{label} takes {' and '.join(what)}" for label, what in wants.items()]
    return f"{of_these}{' and '.join(parts)}." if parts else ""


def _unknown_sentence(methods: Sequence[MethodResult], unknown: Sequence[int]) -> str:
    if not unknown:
        return ""
    return f" Not measured, so left out: {_labels(methods, unknown)}."


def _names(methods: Sequence[MethodResult], positions: Sequence[int]) -> list[str]:
    return [methods[at].name for at in positions]


def _labels(methods: Sequence[MethodResult], positions: Sequence[int]) -> str:
    return wording.listing([methods[at].label for at in positions], MOST)


def _evidence(comparison: Comparison, positions: Sequence[int]) -> list[str]:
    return [_evidence_line(comparison, at) for at in positions[:MOST]]


def _evidence_line(comparison: Comparison, at: int) -> str:
    method = comparison.methods[at]
    parts = [f"{method.label}: {wording.score(method.mean, comparison.metric)}"]
    if at:
        loss, low, high = loss_bounds(comparison, at)
        behind, *ends = (wording.amount(each, comparison.metric) for each in (loss, low, high) if each is not None)
        text = f"{behind} points behind {comparison.methods[0].label}"
        if ends:
            text += f" (95 % interval {' to '.join(ends)}{_why_not_told_apart(comparison, at)})"
        parts.append(text)
    if method.peak_memory_bytes is not None:
        parts.append(f"{wording.size(method.peak_memory_bytes)} peak memory")
    parts.append(f"{wording.seconds(method.costs.train_seconds)} of training")
    return ", ".join(parts)


def _why_not_told_apart(comparison: Comparison, at: int) -> str:
    """The reason where a pair's own interval leaves out 0 and the methods are yet not told apart."""
    pairs = comparison.pairs
    p_value, adjusted = float(pairs.p_value[0, at]), float(pairs.adjusted[0, at])
    if not p_value < LEVEL <= adjusted:
        return ""
    return (
        f" for this pair alone; among {pairs.tested} pairs some differ so much by chance, and corrected for that "
        f"p is {wording.p_value(adjusted)}: not told apart"
    )


def choice_data(comparison: Comparison) -> dict[str, Any]:
    """What the page needs to answer by itself: figures of each method, and how it stands to each, a digit each."""
    rows = []
    for at, method in enumerate(comparison.methods):
        loss, low, high = loss_bounds(comparison, at)
        rows.append(
            {
                "name": method.label,
                "memory": method.peak_memory_bytes,
                "seconds": method.costs.train_seconds,
                "loss": loss,
                "low": low,
                "high": high,
                "evidence": _evidence_line(comparison, at),
                "memory_text": wording.size(method.peak_memory_bytes),
                "seconds_text": wording.seconds(method.costs.train_seconds),
                "relations": "".join(relation(comparison, at, other) for other in range(len(comparison.methods))),
            }
        )
    return {"methods": rows, "caveat": caveat(comparison), "distance": distance_words(comparison)}

"""Two audits of the same rows compared: what a remedy has made better, and what worse."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from peftlab.audit.groups import compare_groups, two_sided
from peftlab.audit.report import BeforeReport, ComparedFigure
from peftlab.core.audit import Figure, Findings
from peftlab.core.errors import UnsupportedError
from peftlab.inference.tuned_model import TunedModel
from peftlab.statistics.means import mean_with_interval
from peftlab.statistics.pairs import holm

ALPHA = 0.05


@dataclass(frozen=True)
class _Change:
    """A figure in both audits; ``p_value`` None: nothing tells what chance does to it.

    ``p_mirrored`` is that of the two being as far from 0, one on either side: where chance explains that, a difference
    of two groups has moved, and it is not known whether it is nearer to none.
    """

    difference: float
    low: float | None
    high: float | None
    p_value: float | None
    paired: bool
    p_mirrored: float = 1.0


def check_alike(tuned: TunedModel, before: TunedModel) -> None:
    """Refuse a run that cannot be asked about the same rows.

    Raises:
        UnsupportedError: It reads other columns, or answers other classes.
    """
    own, other = tuned.task, before.task
    pairs = {
        "reads the column": (own.text_columns(), other.text_columns()),
        "learned the column": (own.label_columns(), other.label_columns()),
        "has the classes": (tuple(sorted(tuned.labels)), tuple(sorted(before.labels))),
    }
    for what, (after, earlier) in pairs.items():
        if after != earlier:
            shown = [", ".join(map(str, names[:6])) or "none" for names in (earlier, after)]
            raise UnsupportedError(
                f"{before.name} {what} {shown[0]}, and {tuned.name} {shown[1]}",
                where="--before",
                hint="Name a run that can answer the same rows.",
            )


def compare(
    name: str, before: Mapping[str, Findings], after: Mapping[str, Findings], *, rows_learned: int | None = None
) -> BeforeReport:
    """Compare the figures that both audits have.

    A figure that is a mean over the same rows, names or sets in both is compared in pairs (Student's test; Welch's of
    the changes, where it is a difference of two groups). Of others the two intervals are combined as if they were
    independent (Zou and Donner, Statistics in Medicine 27, 2008), which is wider than need be. What is called better
    or worse is corrected for all that is compared (Holm). A difference of two groups is better where it is nearer to
    none, if the sum of both differences is told apart from 0 too: else it has only moved.

    Args:
        name: Of the run before.
        before: Its findings by part.
        after: The other run's.
        rows_learned: How many of the rows the run before was trained on; None: not known.
    """
    earlier = {figure.name: figure for found in before.values() for figure in found.figures}
    later = {figure.name: figure for found in after.values() for figure in found.figures}
    changes = {
        own: change
        for own, figure in later.items()
        if own in earlier and (change := _change(earlier[own], figure)) is not None
    }
    tested = [own for own, change in changes.items() if change.p_value is not None]
    corrected = holm([changes[own].p_value or 0.0 for own in tested])
    mirrored = holm([changes[own].p_mirrored for own in tested])
    for own, p_value, p_mirrored in zip(tested, corrected, mirrored, strict=True):
        changes[own] = replace(changes[own], p_value=p_value, p_mirrored=p_mirrored)
    figures = {own: _compared(earlier[own], later[own], change) for own, change in changes.items()}
    order = sorted(figures, key=lambda own: (figures[own].p_value is None, figures[own].p_value or 0.0))
    return BeforeReport(
        run=name,
        rows_learned=rows_learned,
        figures={own: figures[own] for own in order},
        better=[own for own in order if figures[own].change == "better"],
        worse=[own for own in order if figures[own].change == "worse"],
        moved=[own for own in order if figures[own].change == "moved"],
        only_before=sorted(set(earlier) - set(figures)),
        only_after=sorted(set(later) - set(figures)),
    )


def _change(before: Figure, after: Figure) -> _Change | None:
    """None where the figures are of other rows, such as groups that each model forms itself."""
    one, other = before.sample, after.sample
    difference = after.value - before.value
    if one is not None and other is not None:
        if list(one.units) != list(other.units):
            return None
        changes, sums = other.values - one.values, other.values + one.values
        if other.is_first is None:
            mean = mean_with_interval(changes, changes=True)
            return _Change(difference, mean.low, mean.high, two_sided(changes), True, two_sided(sums))
        found, of_sums = (compare_groups(own[other.is_first], own[~other.is_first]) for own in (changes, sums))
        return _Change(difference, found.low, found.high, found.p_value, True, of_sums.p_value)
    if one is not None or other is not None or before.n != after.n:
        return None
    ends = (before.low, before.high, after.low, after.high)
    if any(end is None or not math.isfinite(end) for end in ends):
        return _Change(difference, None, None, None, paired=False)
    low_before, high_before, low_after, high_after = (float(end) for end in ends if end is not None)
    down = math.hypot(after.value - low_after, high_before - before.value)
    up = math.hypot(high_after - after.value, before.value - low_before)
    towards = down if difference > 0 else up
    total, below = before.value + after.value, math.hypot(before.value - low_before, after.value - low_after)
    towards_none = below if total > 0 else math.hypot(high_before - before.value, high_after - after.value)
    return _Change(
        difference, difference - down, difference + up, _p_value(difference, towards), False,
        _p_value(total, towards_none),
    )  # fmt: skip


def _p_value(difference: float, half: float) -> float:
    """Two-sided, of a difference whose 95 % interval reaches so far towards 0."""
    if half == 0:
        return float(difference == 0)
    return math.erfc(abs(difference) / half * 1.959964 / math.sqrt(2))


def _compared(before: Figure, after: Figure, change: _Change) -> ComparedFigure:
    is_sure = change.p_value is not None and change.p_value <= ALPHA
    direction = after.higher_is_better
    is_better: bool | None
    if direction is None and after.unit == "difference":  # of two groups: the nearer to none the better
        is_better = abs(after.value) < abs(before.value)
        is_better = is_better if change.p_mirrored <= ALPHA else None
    elif direction is None:
        is_better = None
    else:
        is_better = (change.difference > 0) == direction
    said: Literal["better", "worse", "moved", "unclear"]
    said = "unclear" if not is_sure else "moved" if is_better is None else "better" if is_better else "worse"
    return ComparedFigure(
        before=before.value,
        after=after.value,
        difference=change.difference,
        low=change.low,
        high=change.high,
        n=after.n,
        sampled=after.sampled,
        unit=after.unit,
        paired=change.paired,
        p_value=change.p_value,
        change=said,
    )

"""Fairness by a group column: whether rows of one group are answered as rightly as others (equalised odds)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from peftlab.audit.groups import compare_groups
from peftlab.core.audit import AUDITS, Audit, Audited, Figure, Findings, Sample
from peftlab.core.errors import ConfigError
from peftlab.statistics.pairs import holm
from peftlab.statistics.proportions import difference_of_proportions

Members = NDArray[np.bool_]


@AUDITS.register("group_fairness")
class GroupFairness(Audit):
    """Equalised odds and calibration by a group column: rows of one group against all others."""

    title = "Fairness: groups of a column"
    order = 45

    by: list[str] = Field(default_factory=list, description="Columns that say which group a row belongs to.")
    fewest_rows: int = Field(20, ge=5, description="Groups with fewer rows of a class are named, and not compared.")
    most_groups: int = Field(20, ge=2, description="A column with more values is no column of groups.")

    def why_not(self, audited: Audited) -> str | None:
        """It needs one class for each row, and a column."""
        if audited.classes is None:
            return "the model does not choose one class for a row"
        return None if self.by else "name a column of groups: --set group_fairness.by=[COLUMN]"

    def columns(self) -> tuple[str, ...]:
        """The columns of groups."""
        return tuple(self.by)

    def run(self, audited: Audited) -> Findings:
        """Compare.

        Raises:
            UserError: A column has one group only, or too many.
        """
        figures: list[Figure] = []
        notes: list[str] = []
        compared = [pair for column in dict.fromkeys(self.by) for pair in self._pairs(audited, column)]
        for column, group, members, others in compared:
            found, small = self._compare(audited, f"{column}.{group}", group, members, others, len(compared))
            figures += found
            notes += small
        corrected = holm([float(figure.p_value or 0.0) for figure in figures])
        figures = [replace(figure, p_value=p_value) for figure, p_value in zip(figures, corrected, strict=True)]
        odds = [figure for figure in figures if ".recall." in figure.name or ".false_positive." in figure.name]
        return Findings([*_largest(odds), *figures], notes)

    def _pairs(self, audited: Audited, column: str) -> list[tuple[str, str, Members, Members]]:
        """Each group and the rest; of two groups the first, since the other comparison is the same."""
        given = audited.rows.columns[column]
        values = np.array([None if value is None else str(value) for value in given], dtype=object)
        groups = sorted({value for value in values if value is not None})
        if not 2 <= len(groups) <= self.most_groups:
            raise ConfigError(
                f"the column `{column}` has {len(groups)} different values; from 2 to {self.most_groups} make groups",
                where="group_fairness.by",
            )
        known = np.array([value is not None for value in values])
        chosen = groups[:1] if len(groups) == 2 else groups
        return [(column, group, values == group, known & (values != group)) for group in chosen]

    def _compare(
        self, audited: Audited, name: str, group: str, members: Members, others: Members, looked_at: int
    ) -> tuple[list[Figure], list[str]]:
        if audited.classes is None:
            return [], []
        right, said = audited.classes
        labels, figures, small = audited.model.labels, [], []
        # Of two classes, what is a false positive of one is a miss of the other.
        kinds = [("recall", True), *([("false_positive", False)] if len(labels) > 2 else [])]
        every = looked_at * len(labels) * len(kinds)
        for at, label in enumerate(labels):
            for kind, is_own in kinds:
                rows = (right == at) == is_own
                own, other = rows & members, rows & others
                if min(own.sum(), other.sum()) < self.fewest_rows:
                    small.append(label)
                    continue
                hits = (said == at).astype(np.float64)
                own_name = f"{name}.{kind}.{label}"
                figure = _odds(own_name, group, label, hits[own], hits[other], every, is_own=is_own)
                figures.append(replace(figure, sample=_sample(hits, own, other)))
        if audited.probabilities is not None and min(members.sum(), others.sum()) >= self.fewest_rows:
            figures.append(_sureness(audited.probabilities, right, said, name, group, members, others, looked_at))
        notes = []
        if small:
            classes = ", ".join(dict.fromkeys(small))
            notes.append(f"Too few rows to say anything (fewer than {self.fewest_rows}) of {group}: {classes}.")
        return figures, notes


def _odds(
    name: str, group: str, label: str, own: NDArray[np.float64], other: NDArray[np.float64], looked_at: int, *,
    is_own: bool,
) -> Figure:  # fmt: skip
    found = difference_of_proportions(int(own.sum()), len(own), int(other.sum()), len(other), 1 - 0.05 / looked_at)
    rows = f"Of the rows of the class {label}" if is_own else f"Of the rows of other classes than {label}"
    return Figure(
        f"group_fairness.{name}",
        found.difference,
        len(own) + len(other),
        f"{rows}, {own.mean():.1%} of {group} are given it, and {other.mean():.1%} of the others.",
        low=found.low,
        high=found.high,
        unit="difference",
        higher_is_better=None,
        p_value=found.p_value,
    )


def _sureness(
    probabilities: NDArray[np.float64], right: NDArray[np.int64], said: NDArray[np.int64], name: str, group: str,
    members: Members, others: Members, looked_at: int,
) -> Figure:  # fmt: skip
    """How much more the model states than is true, in a group against the others."""
    excess = probabilities[np.arange(len(said)), said] - (right == said)
    found = compare_groups(excess[members], excess[others], looked_at=looked_at)
    return Figure(
        f"group_fairness.{name}.overconfidence",
        found.difference,
        int(members.sum() + others.sum()),
        f"For {group} the model states {100 * excess[members].mean():+.1f} points more than it is right, for the "
        f"others {100 * excess[others].mean():+.1f}.",
        low=found.low,
        high=found.high,
        unit="difference",
        higher_is_better=None,
        p_value=found.p_value,
        sample=_sample(excess, members, others),
    )


def _sample(values: NDArray[np.float64], members: Members, others: Members) -> Sample:
    rows = np.flatnonzero(members | others)
    return Sample(rows.tolist(), values[rows], members[rows])


def _largest(odds: Sequence[Figure]) -> list[Figure]:
    """The largest gap; the intervals hold for all gaps together, so also for the largest."""
    if not odds:
        return []
    most = max(odds, key=lambda figure: abs(figure.value))
    ends = sorted(abs(end or 0.0) for end in (most.low, most.high))
    low = 0.0 if (most.low or 0.0) <= 0 <= (most.high or 0.0) else ends[0]
    return [
        Figure(
            "group_fairness.equalized_odds",
            abs(most.value),
            most.n,
            f"The largest gap between a group and the others is {100 * abs(most.value):.1f} points (equalised odds): "
            f"{most.sentence}",
            low=low,
            high=ends[1],
            unit="difference",
        )
    ]

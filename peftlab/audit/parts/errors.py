"""Errors, and where they gather: per class, length, column, rare words, and clusters of like texts."""

from __future__ import annotations

from pydantic import Field

from peftlab.audit.slices import Slice, all_slices, found_clusters
from peftlab.core.audit import AUDITS, Audit, Audited, Figure, Findings, Sample
from peftlab.core.errors import UserError, did_you_mean
from peftlab.statistics.means import mean_with_interval
from peftlab.statistics.slices import slice_p_values

EXAMPLES = 5


@AUDITS.register("errors")
class Errors(Audit):
    """Errors over all rows, and slices in which they are more frequent than in the rest."""

    title = "Errors, and where they gather"
    order = 10

    fewest_rows: int = Field(20, ge=5, description="Slices with fewer rows are named, and not shown as a difference.")
    clusters: int | None = Field(
        None, ge=0, description="Groups of like texts to look at; null: one for each hundred rows, twenty at most."
    )

    def why_not(self, audited: Audited) -> str | None:
        """Where nothing is decided, nothing is wrong."""
        if not any(audited.task.decisions(prediction) for prediction in audited.predictions):
            return f"a run of {audited.task.registered_name} decides nothing that could be right or wrong"
        return None

    def texts_read(self, audited: Audited) -> int:
        """For the vectors."""
        return 0 if self.clusters == 0 else len(audited)

    def run(self, audited: Audited) -> Findings:
        """Count errors, and compare each slice with the rest."""
        missing = [name for name in audited.slices if name not in audited.rows.columns]
        if missing:
            raise UserError(
                f"there is no column `{missing[0]}` to part the rows by",
                where="--slices",
                hint=did_you_mean(missing[0], audited.rows.columns),
            )
        slices, notes = all_slices(audited, fewest=self.fewest_rows)
        number = min(20, len(audited) // 100) if self.clusters is None else self.clusters
        slices += found_clusters(audited, number, fewest=self.fewest_rows)
        return Findings([_overall(audited), *_compared(audited, slices)], notes)


def _overall(audited: Audited) -> Figure:
    mean = mean_with_interval(audited.errors)
    shown = f"{mean.value:.1%}" if audited.counts_errors else f"{mean.value:.3g}"
    worst = sorted(range(len(audited)), key=lambda at: -audited.errors[at])[:EXAMPLES]
    return mean.figure(
        "errors.overall",
        f"{shown} {_what(audited)}.",
        unit="share" if audited.counts_errors else "number",
        examples=[audited.example(at) for at in worst if audited.errors[at] > 0],
        sample=Sample(range(len(audited)), audited.errors),
    )


def _what(audited: Audited) -> str:
    """What an error is, as the rest of a sentence."""
    if not audited.counts_errors:
        return "is the mean distance from the right number"
    if any(len(audited.task.decisions(prediction)) > 1 for prediction in audited.predictions):
        return "of what is decided in a text is wrong on average"
    if not audited.model.labels:
        return "of the answers are not the same text as a right one: other words for the same count as wrong"
    return "of the answers are wrong"


def _compared(audited: Audited, slices: list[Slice]) -> list[Figure]:
    import numpy as np

    if not slices:
        return []
    members = np.array([each.members for each in slices])
    p_values = slice_p_values(audited.errors, members, audited.random("errors"))
    order = sorted(range(len(slices)), key=lambda at: (p_values[at], -audited.errors[members[at]].mean()))
    return [_figure(audited, slices[at], float(p_values[at]), len(slices)) for at in order]


def _figure(audited: Audited, each: Slice, p_value: float, looked_at: int) -> Figure:
    inside, outside = audited.errors[each.members], audited.errors[~each.members]
    mean = mean_with_interval(inside, looked_at=looked_at)
    rest = float(outside.mean()) if len(outside) else mean.value
    form = "{:.1%}" if audited.counts_errors else "{:.3g}"
    wrong = [at for at in each.members.nonzero()[0].tolist() if audited.errors[at] > 0]
    wrong.sort(key=lambda at: -audited.errors[at])
    return mean.figure(
        f"errors.{each.name}",
        f"{each.what}: error {form.format(mean.value)}, elsewhere {form.format(rest)}.",
        unit="share" if audited.counts_errors else "number",
        p_value=p_value,
        examples=[audited.example(at) for at in wrong[:EXAMPLES]],
        sample=Sample(each.members.nonzero()[0].tolist(), inside),
    )

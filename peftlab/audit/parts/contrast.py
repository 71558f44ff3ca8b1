"""Contrast sets: texts that differ little, and mean something else; a model is right only if it has both right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from peftlab.core.audit import AUDITS, Audit, Audited, Figure, Findings, Sample, errors_of, texts_of
from peftlab.core.errors import ConfigError, DataError
from peftlab.core.task import Prediction
from peftlab.statistics.means import exceeds, mean_with_interval

EXAMPLES = 5
FEWEST_SETS = 20


@AUDITS.register("contrast")
class Contrast(Audit):
    """Contrast sets (texts that differ little, with other labels): how often all of a set are right."""

    title = "Contrast sets"
    order = 25

    by: str | None = Field(None, min_length=1, description="The column that says which rows belong together.")
    data: str | None = Field(
        None, min_length=1, description="A table of changed texts with the same column. null: they are among the rows."
    )
    tolerance: float = Field(
        0.02, ge=0, description="How much higher the error may be on the changed texts before it counts as a fault."
    )

    def why_not(self, audited: Audited) -> str | None:
        """It needs the column."""
        if not any(audited.task.decisions(prediction) for prediction in audited.predictions):
            return f"a run of {audited.task.registered_name} decides nothing that could be wrong"
        return None if self.by else "name the column that says which rows belong together: --set contrast.by=COLUMN"

    def columns(self) -> tuple[str, ...]:
        """The column of the sets."""
        return (self.by,) if self.by else ()

    def tables(self) -> tuple[str, ...]:
        """The changed texts."""
        return (self.data,) if self.data else ()

    def run(self, audited: Audited) -> Findings:
        """Count the sets that are wholly right.

        Raises:
            UserError: There are too few sets, or the table cannot be used.
        """
        if self.by is None:
            raise ConfigError("a column is needed", where="contrast.by")
        rows = [_Row(key, audited.errors[at], audited.predictions[at], audited.example(at), is_changed=False)
                for at, key in enumerate(audited.rows.columns[self.by])]  # fmt: skip
        if self.data is not None:
            rows += self._changed(audited, self.by, self.data)
        sets: dict[Any, list[_Row]] = {}
        for row in rows:
            if row.key is not None:
                sets.setdefault(row.key, []).append(row)
        whole = [own for own in sets.values() if len(own) > 1 and (self.data is None or _has_both(own))]
        if len(whole) < FEWEST_SETS:
            raise DataError(
                f"{len(whole)} sets of two rows or more have the same `{self.by}`, and {FEWEST_SETS} are needed",
                where=self.data or f"contrast.by={self.by}",
            )
        alone = len(sets) - len(whole)
        notes = [f"{alone} values of {self.by} stand alone, and are left out."] if alone else []
        figures = [_error(audited, whole)]
        if audited.counts_errors:
            figures = [_consistency(whole), *figures, *_unmoved(audited, whole)]
        else:
            notes.append("The answers are numbers: none is wholly right or wrong, so only the error of sets is told.")
        return Findings([*figures, *([self._drop(audited, whole)] if self.data is not None else [])], notes)

    def _changed(self, audited: Audited, by: str, path: str) -> list[_Row]:
        split = audited.table(Path(path), need="labels", columns=(by,))
        predictions = audited.model.predict(split)
        errors, texts = errors_of(audited.task, predictions), texts_of(split, audited.task)
        return [
            _Row(key, errors[at], predictions[at],
                 {"row": split.index[at] + 1, "text": texts[at], "label": predictions[at].label,
                  "prediction": predictions[at].prediction}, is_changed=True)
            for at, key in enumerate(split.columns[by])
        ]  # fmt: skip

    def _drop(self, audited: Audited, sets: Sequence[Sequence[_Row]]) -> Figure:
        changed, originals = (np.array([_mean(own, is_changed=own_kind) for own in sets]) for own_kind in (True, False))
        losses = changed - originals
        mean = mean_with_interval(losses, changes=True)
        form = ".1%" if audited.counts_errors else ".3g"
        return mean.figure(
            "contrast.drop",
            f"The error is {changed.mean():{form}} on the changed texts, and "
            f"{originals.mean():{form}} on their originals.",
            sampled="sets",
            unit="difference" if audited.counts_errors else "number",
            p_value=exceeds(losses, self.tolerance, changes=True),
        )


@dataclass(frozen=True)
class _Row:
    key: Any
    error: float
    prediction: Prediction
    example: dict[str, Any]
    is_changed: bool


def _has_both(rows: Sequence[_Row]) -> bool:
    return len({row.is_changed for row in rows}) == 2


def _mean(rows: Sequence[_Row], *, is_changed: bool) -> float:
    own = [row.error for row in rows if row.is_changed == is_changed]
    return sum(own) / len(own)


def _consistency(sets: Sequence[Sequence[_Row]]) -> Figure:
    right = np.array([all(row.error == 0 for row in own) for own in sets], dtype=np.float64)
    mean = mean_with_interval(right)
    wrong = [at for at in np.flatnonzero(right == 0).tolist() if any(row.error == 0 for row in sets[at])][:EXAMPLES]
    return mean.figure(
        "contrast.consistency",
        f"In {mean.value:.1%} of the sets every text is answered rightly.",
        sampled="sets",
        higher_is_better=True,
        examples=[row.example for at in wrong for row in sets[at][:2]],
        sample=Sample([own[0].key for own in sets], right),
    )


def _error(audited: Audited, sets: Sequence[Sequence[_Row]]) -> Figure:
    """Over sets, since the texts of one are alike."""
    errors = np.array([np.mean([row.error for row in own]) for own in sets])
    mean = mean_with_interval(errors)
    shown = f"{mean.value:.1%}" if audited.counts_errors else f"{mean.value:.3g}"
    return mean.figure(
        "contrast.error",
        f"The mean error of a set is {shown}.",
        sampled="sets",
        unit="share" if audited.counts_errors else "number",
        sample=Sample([own[0].key for own in sets], errors),
    )


def _unmoved(audited: Audited, sets: Sequence[Sequence[_Row]]) -> list[Figure]:
    """Of sets with several right answers: those in which the model gives just one."""
    same = []
    for own in sets:
        decided = [audited.task.decisions(row.prediction) for row in own]
        if len({str([right for right, _ in each]) for each in decided}) > 1:
            same.append(len({str([said for _, said in each]) for each in decided}) == 1)
    if not same:
        return []
    mean = mean_with_interval(np.array(same, dtype=np.float64))
    return [
        mean.figure(
            "contrast.unmoved",
            f"In {mean.value:.1%} of the sets whose right answers differ, all texts get the same answer.",
            sampled="sets",
        )
    ]

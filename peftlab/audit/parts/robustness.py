"""Robustness: the same rows with changed texts, and the worst that a few typing errors can do."""

from __future__ import annotations

import random
import zlib
from collections import Counter
from typing import Any

import numpy as np
from pydantic import Field, SerializeAsAny, field_validator

from peftlab.audit.worst_case import SUBSTITUTIONS, search_worst_case
from peftlab.core.audit import AUDITS, Audit, Audited, Figure, Findings, Sample, changes_of, errors_of
from peftlab.core.perturbation import PERTURBATIONS, Perturbation
from peftlab.core.splits import Split
from peftlab.statistics.means import exceeds, mean_with_interval
from peftlab.statistics.pairs import holm

EXAMPLES = 5


@AUDITS.register("robustness")
class Robustness(Audit):
    """Typing errors, other spellings and added sentences: how many answers change, and what it costs."""

    title = "Robustness: changed texts"
    order = 20

    perturbations: list[str | dict[str, Any] | SerializeAsAny[Perturbation]] = Field(
        default_factory=list, description="Names, or mappings with `type`; empty: all that there are, as they are."
    )
    texts: int = Field(600, ge=20, description="Rows at most that each perturbation is tried on.")
    tolerance: float = Field(
        0.02, ge=0, description="How much the error may grow where the answer should stay, before it counts as a fault."
    )
    worst_case_texts: int = Field(
        40, ge=0, description="Texts in which the worst typing errors, and the worst synonyms, are searched for."
    )
    budget: int = Field(2, ge=1, description="Words that this search may change in a text.")

    @field_validator("perturbations")
    @classmethod
    def _build(cls, given: list[Any]) -> list[Perturbation]:
        built = []
        for item in given:
            values = {"type": item} if isinstance(item, str) else item
            kind = PERTURBATIONS.get(values.get("type")) if isinstance(values, dict) else type(item)
            built.append(kind.model_validate(values))
        return built

    def why_not(self, audited: Audited) -> str | None:
        """Where nothing is decided, nothing can change."""
        if not any(audited.task.decisions(prediction) for prediction in audited.predictions):
            return f"a run of {audited.task.registered_name} decides nothing that could change"
        return audited.why_not_rewritten or None

    def texts_read(self, audited: Audited) -> int:
        """Each perturbation reads its rows once; each of the two searches reads a text about forty times."""
        return len(self._chosen()) * min(self.texts, len(audited)) + 80 * min(self.worst_case_texts, len(audited))

    def run(self, audited: Audited) -> Findings:
        """Ask again."""
        tried, notes = list[_Tried](), list[str]()
        rows, names = audited.sample("robustness", self.texts), Counter[str]()
        for perturbation in self._chosen():
            names[perturbation.registered_name] += 1
            why = perturbation.why_not()
            if why is not None:
                notes.append(f"{perturbation.registered_name}: {why}.")
                continue
            found = _try(audited, perturbation, rows, number=names[perturbation.registered_name])
            if found is None:
                notes.append(f"{perturbation.registered_name}: no text that it would change.")
            else:
                tried.append(found)
        losses = [each for each in tried if each.perturbation.expects == "invariance"]
        corrected = holm([exceeds(each.losses, self.tolerance, changes=True) for each in losses])
        p_values = {each.name: p for each, p in zip(losses, corrected, strict=True)}
        figures: list[Figure] = []
        for each in sorted(tried, key=lambda item: (p_values.get(item.name, 1.0), -float(item.losses.mean()))):
            figures += each.figures(len(tried), p_values.get(each.name))
        if self.worst_case_texts and audited.classes is not None:
            figures += [
                figure
                for kind in SUBSTITUTIONS
                for figure in search_worst_case(audited, kind, texts=self.worst_case_texts, budget=self.budget)
            ]
        return Findings(figures, notes)

    def _chosen(self) -> list[Perturbation]:
        if self.perturbations:
            return [each for each in self.perturbations if isinstance(each, Perturbation)]
        return [PERTURBATIONS[name]() for name in PERTURBATIONS]


class _Tried:
    """What one perturbation has done to the rows that it changes."""

    def __init__(
        self, audited: Audited, perturbation: Perturbation, changed: Split, rows: list[int], name: str
    ) -> None:
        before, after = [audited.predictions[at] for at in rows], audited.model.predict(changed)
        self.audited, self.perturbation, self.name = audited, perturbation, name
        self.rows, self.changed, self.after = rows, changed, after
        self.losses = errors_of(audited.task, after) - audited.errors[rows]
        self.flips = changes_of(audited.task, before, after)

    def figures(self, looked_at: int, p_value: float | None) -> list[Figure]:
        """The growth of the error, and the share of the answers that changed, or how far numbers moved.

        Where the meaning should turn, an error against the old label tells nothing.
        """
        if self.perturbation.expects == "direction":
            direction = self._direction(looked_at)
            return [self._changed(looked_at), *([direction] if direction else [])]
        return [self._loss(looked_at, p_value), self._changed(looked_at)]

    def _loss(self, looked_at: int, p_value: float | None) -> Figure:
        loss, counts = mean_with_interval(self.losses, looked_at=looked_at, changes=True), self.audited.counts_errors
        shown = f"{100 * loss.value:+.1f} points" if counts else f"{loss.value:+.3g}"
        return loss.figure(
            f"robustness.{self.name}.loss",
            f"Where {self.perturbation.described()}, the error changes by {shown}.",
            unit="difference" if counts else "number",
            p_value=p_value,
            sample=Sample(self.rows, self.losses),
        )

    def _changed(self, looked_at: int) -> Figure:
        changes, counts = mean_with_interval(self.flips, looked_at=looked_at), self.audited.counts_errors
        what = self.perturbation.described()
        return Figure(
            f"robustness.{self.name}.{'flipped' if counts else 'distance'}",
            changes.value,
            changes.n,
            f"Where {what}, {changes.value:.1%} of the answers change."
            if counts
            else f"Where {what}, an answer moves by {changes.value:.3g} on average.",
            low=max(changes.low, 0.0),
            high=min(changes.high, 1.0) if counts else changes.high,
            unit="share" if counts else "number",
            examples=self._examples(),
            higher_is_better=None if self.perturbation.expects == "direction" else False,
            sample=Sample(self.rows, self.flips),
        )

    def _direction(self, looked_at: int) -> Figure | None:
        pairs = [(self.audited.predictions[row], after) for row, after in zip(self.rows, self.after, strict=True)]
        labels = list(self.audited.model.labels)
        if self.audited.probabilities is None:
            return None
        falls = [
            after.scores[labels.index(before.prediction)] < before.scores[labels.index(before.prediction)]
            for before, after in pairs
        ]
        values = np.array(falls, dtype=np.float64)
        mean = mean_with_interval(values, looked_at=looked_at)
        return mean.figure(
            f"robustness.{self.name}.moved",
            f"Where {self.perturbation.described()}, the model is less sure of its first answer in {mean.value:.1%} of "
            "the texts, as one would expect.",
            higher_is_better=True,
            sample=Sample(self.rows, values),
        )

    def _examples(self) -> list[dict[str, Any]]:
        task = self.audited.task
        order = np.argsort(-self.flips, kind="stable").tolist()
        shown = [at for at in order if self.flips[at] > 0][:EXAMPLES]
        columns = task.text_columns()
        return [
            self.audited.example(
                self.rows[at],
                changed_text="\n\n".join(_as_text(self.changed.columns[name][at]) for name in columns),
                changed_prediction=self.after[at].prediction,
            )
            for at in shown
        ]


def _try(audited: Audited, perturbation: Perturbation, rows: list[int], *, number: int) -> _Tried | None:
    """Ask again about the rows that it changes; None where it changes none.

    One that is named again, with other settings, has the number in its figures' names.
    """
    name = perturbation.registered_name
    generator = random.Random(zlib.crc32(f"{audited.seed} {name}".encode()))  # noqa: S311 - no secret
    columns_of_texts = [audited.rows.columns[name] for name in audited.task.text_columns()]
    perturbation.prepare(
        [value for column in columns_of_texts for row in rows if isinstance(value := column[row], str)]
    )
    changed = audited.rewritten(rows, lambda value: perturbation.perturb(value, generator))
    names = audited.task.text_columns()
    differs = [
        at for at, row in enumerate(rows) if any(changed.columns[n][at] != audited.rows.columns[n][row] for n in names)
    ]
    if not differs:
        return None
    columns = {name: [values[at] for at in differs] for name, values in changed.columns.items()}
    part = Split(changed.name, [changed.index[at] for at in differs], columns, changed.source)
    return _Tried(
        audited, perturbation, part, [rows[at] for at in differs], name if number == 1 else f"{name}_{number}"
    )


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else " ".join(value)

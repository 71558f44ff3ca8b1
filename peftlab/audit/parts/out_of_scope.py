"""Out of scope: whether texts that belong to none of the classes can be told from those that do."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from peftlab.core.audit import AUDITS, Audit, Audited, Figure, Findings
from peftlab.core.errors import ConfigError, DataError
from peftlab.core.splits import Split
from peftlab.data.columns import take
from peftlab.statistics.means import mean_with_interval
from peftlab.statistics.out_of_scope import (
    KEPT,
    MahalanobisScorer,
    NeighborScorer,
    auroc,
    energy_scores,
    false_acceptance,
    rejection_threshold,
)

Score = Literal["energy", "mahalanobis", "nearest_neighbor"]
Scores = dict[Score, tuple[NDArray[np.float64], NDArray[np.float64]]]
NAMES: Mapping[Score, str] = {
    "energy": "The energy of the logits",
    "mahalanobis": "The distance to the nearest class",
    "nearest_neighbor": "The distance to the nearest training texts",
}
EXAMPLES = 5
FEWEST_ROWS = 20


@AUDITS.register("out_of_scope")
class OutOfScope(Audit):
    """Texts of no class: how well energy, distance to classes and nearest neighbours tell them from the others."""

    title = "Texts that belong to no class"
    order = 35

    data: str | None = Field(None, min_length=1, description="A table of texts that belong to none of the classes.")
    withheld: list[str] = Field(
        default_factory=list,
        description="Take only the rows of `data` with one of these labels: classes that training did not have.",
    )
    rejected: float = Field(
        0.05, gt=0, lt=1, description="Share of the texts of known classes that may be rejected, for the threshold."
    )
    score: Score = Field("energy", description="Which score the threshold is set for.")
    neighbors: int = Field(5, ge=1, description="The distance to the neighbour of this number counts.")
    train_texts: int = Field(5000, ge=20, description="Training texts at most that distances are measured to.")

    def why_not(self, audited: Audited) -> str | None:
        """It needs one class for each row, and texts of no class."""
        if audited.classes is None or len(audited.model.labels) < 2 or not audited.task.predicts_from_logits:
            return "the model does not choose one of several classes for a row"
        if self.data is None:
            return "give texts that belong to no class: --set out_of_scope.data=FILE"
        return None

    def tables(self) -> tuple[str, ...]:
        """The texts of no class."""
        return () if self.data is None else (self.data,)

    def texts_read(self, audited: Audited) -> int:
        """Logits and vectors of the rows, and vectors of training texts; the other table is counted as it comes."""
        return 2 * len(audited) + min(self.train_texts, len(audited.train or ()))

    def run(self, audited: Audited) -> Findings:
        """Score the rows and the texts of no class, and compare.

        Raises:
            UserError: The table cannot be used.
        """
        strange = self._strange(audited)
        scores, notes = self._scores(audited, strange)
        if not scores:
            return Findings((), notes)
        figures = [figure for name in scores for figure in self._separation(audited, name, scores)]
        fewest = 2 * math.ceil(1 / self.rejected - 1 - 1e-9)
        if self.score not in scores:
            notes.append(f"No threshold: there is no score by {self.score} here.")
        elif len(audited) < fewest:
            notes.append(
                f"No threshold: {fewest} audited rows are needed for one that rejects {100 * self.rejected:g} %."
            )
        else:
            figures += self._threshold(audited, strange, *scores[self.score])
        return Findings(figures, notes)

    def _strange(self, audited: Audited) -> Split:
        if self.data is None:
            raise ConfigError("a table is needed", where="out_of_scope.data")
        labels = audited.task.label_columns()
        rows = audited.table(Path(self.data), need="texts", columns=labels if self.withheld else ())
        if self.withheld:
            known = sorted(set(self.withheld) & set(audited.model.labels))
            if known:
                raise ConfigError(
                    f"the run was trained on `{known[0]}`",
                    where="out_of_scope.withheld",
                    hint="Tune a run without these rows first, and audit that one.",
                )
            kept = [at for at, label in enumerate(rows.columns[labels[0]]) if str(label) in self.withheld]
            rows = take(rows, kept)
            texts = {name: values for name, values in rows.columns.items() if name not in labels}
            rows = replace(rows, columns=texts)
        if len(rows) < FEWEST_ROWS:
            raise DataError(
                f"there are {len(rows)} texts of no class, and {FEWEST_ROWS} at least are needed", where=self.data
            )
        return rows

    def _scores(self, audited: Audited, strange: Split) -> tuple[Scores, list[str]]:
        """Of each kind: scores of the rows, and of the texts of no class."""
        model = audited.model
        found: Scores = {}
        logits, strange_logits = model.logits(audited.rows), model.logits(strange)
        if logits is not None and strange_logits is not None:
            found["energy"] = (energy_scores(logits), energy_scores(strange_logits))
        notes = [] if found else ["No energy: a text has not one vector of logits."]
        if audited.train is None:
            return found, [*notes, "No distances: the rows of training cannot be read."]
        train = self._train(audited, audited.train)
        if len(train) <= len(set(_classes_of(train, audited).tolist())):
            return found, [*notes, "No distances: training has not two texts of any class."]
        # In one call: vectors of words, which stand in where torch does not run the model, are alike only within one.
        vectors = model.embed(_joined(audited, [train, audited.rows, strange]))
        features, known, others = np.split(vectors, [len(train), len(train) + len(audited)])
        classes = _classes_of(train, audited)
        fitted: dict[Score, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
            "mahalanobis": MahalanobisScorer.fit(features, classes).score,
            "nearest_neighbor": NeighborScorer.fit(features, min(self.neighbors, len(features))).score,
        }
        return found | {name: (score(known), score(others)) for name, score in fitted.items()}, notes

    def _train(self, audited: Audited, train: Split) -> Split:
        known = set(audited.model.labels)
        (label,) = audited.task.label_columns()
        rows = np.array([at for at, value in enumerate(train.columns[label]) if str(value) in known], dtype=np.int64)
        if len(rows) > self.train_texts:
            rows = np.sort(audited.random("out_of_scope train").choice(rows, self.train_texts, replace=False))
        return take(train, rows.tolist())

    def _separation(self, audited: Audited, name: Score, scores: Scores) -> list[Figure]:
        known, strange = scores[name]
        level = 1 - 0.05 / len(scores)
        area = auroc(known, strange, level)
        share = false_acceptance(known, strange, audited.random(f"out_of_scope {name}"), level=level)
        count = len(known) + len(strange)
        return [
            Figure(
                f"out_of_scope.{name}.auroc", area.value, count,
                f"{NAMES[name]} tells texts of no class from those of a class with an AUROC of {area.value:.1%}; 50 % "
                "would be chance, and 100 % always right.",
                low=area.low, high=area.high, higher_is_better=True,
            ),
            Figure(
                f"out_of_scope.{name}.fpr95", share.value, count,
                f"Where {KEPT:.0%} of the texts of known classes are kept by it, {share.value:.1%} of the texts of no "
                "class slip through.",
                low=share.low, high=share.high,
            ),
        ]  # fmt: skip

    def _threshold(
        self, audited: Audited, strange: Split, known_scores: NDArray[np.float64], strange_scores: NDArray[np.float64]
    ) -> list[Figure]:
        """Set on one half of the known rows, judged on the other."""
        order = audited.random("out_of_scope threshold").permutation(len(known_scores))
        setting, new = order[: len(order) // 2], order[len(order) // 2 :]
        threshold = rejection_threshold(known_scores[setting], self.rejected)
        lost = mean_with_interval((known_scores[new] > threshold).astype(np.float64), looked_at=2)
        caught = mean_with_interval((strange_scores > threshold).astype(np.float64), looked_at=2)
        likely = np.argsort(strange_scores, kind="stable")[:EXAMPLES]
        answers = audited.model.predict(take(strange, likely.tolist()))
        (column,) = audited.task.text_columns()[:1]
        return [
            lost.figure(
                "out_of_scope.rejected",
                f"With the threshold {threshold:.4g} for {self.score}, which one half of the rows has set for "
                f"{100 * self.rejected:g} %, {lost.value:.1%} of the other half are rejected though they have a class.",
            ),
            caught.figure(
                "out_of_scope.caught",
                f"The same threshold rejects {caught.value:.1%} of the texts of no class.",
                higher_is_better=True,
                examples=[
                    {
                        "row": strange.index[at] + 1,
                        "text": strange.columns[column][at],
                        "prediction": answer.prediction,
                        "score": round(float(strange_scores[at]), 4),
                    }
                    for at, answer in zip(likely.tolist(), answers, strict=True)
                ],
            ),
        ]


def _classes_of(train: Split, audited: Audited) -> NDArray[np.int64]:
    places = {name: at for at, name in enumerate(audited.model.labels)}
    (label,) = audited.task.label_columns()
    return np.array([places[str(value)] for value in train.columns[label]], dtype=np.int64)


def _joined(audited: Audited, splits: list[Split]) -> Split:
    columns = {name: [value for each in splits for value in each.columns[name]] for name in audited.task.text_columns()}
    return Split("joined", range(sum(map(len, splits))), columns)

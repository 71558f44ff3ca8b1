"""Faults of the data: wrong labels, texts that are in training too, and classes without rows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from peftlab.core.audit import AUDITS, Audit, Audited, Figure, Findings, Sample, texts_of
from peftlab.core.splits import Split
from peftlab.core.words import split_words
from peftlab.data.duplicates import count_conflicts, text_keys
from peftlab.data.near_duplicates import first_alike
from peftlab.statistics.label_errors import suspected_labels
from peftlab.statistics.means import mean_with_interval


@AUDITS.register("data")
class Data(Audit):
    """Labels that look wrong, texts that are in training too, texts with several labels, and classes without rows."""

    title = "Faults of the data"
    order = 50

    examples: int = Field(20, ge=1, description="Rows that are listed for each kind of fault.")
    fewest_words: int = Field(5, ge=1, description="Of shorter texts, likeness says nothing.")

    def run(self, audited: Audited) -> Findings:
        """Look at the rows, and at those of training where they can be read."""
        figures, notes = [], []
        if audited.classes is None or audited.probabilities is None:
            notes.append("Labels are not looked at: the model gives no probabilities of single classes.")
        else:
            figures.append(self._label_errors(audited, audited.classes[0], audited.probabilities))
        if audited.train is None:
            notes.append("Leaks are not looked at: the rows of training cannot be read.")
        else:
            figures += self._leaks(audited, audited.train)
        figures.append(_conflicts(audited))
        figures += _classes(audited)
        return Findings(figures, notes)

    def _label_errors(self, audited: Audited, labels: NDArray[np.int64], probabilities: NDArray[np.float64]) -> Figure:
        suspected = suspected_labels(labels, probabilities).tolist()
        hits = np.isin(np.arange(len(audited)), suspected).astype(np.float64)
        mean = mean_with_interval(hits)
        return mean.figure(
            "data.label_errors",
            f"Labels that look wrong: {len(suspected):,}. Another class is likelier than is usual for that class. The "
            "most suspicious are listed first; a hard text can look like a wrong label.",
            examples=[
                audited.example(at, probability_of_label=round(float(probabilities[at, labels[at]]), 4))
                for at in suspected[: self.examples]
            ],
            sample=Sample(range(len(audited)), hits),
        )

    def _leaks(self, audited: Audited, train: Split) -> list[Figure]:
        columns = audited.task.text_columns()
        known: dict[bytes, int] = {}
        for at, key in enumerate(text_keys(train, columns)):
            known.setdefault(key, at)
        twins = [known.get(key) for key in text_keys(audited.rows, columns)]
        same = {at: twin for at, twin in enumerate(twins) if twin is not None}
        others = texts_of(train, audited.task)
        open_rows = [at for at, text in enumerate(audited.texts) if at not in same]
        open_rows = [at for at in open_rows if len(split_words(audited.texts[at])) >= self.fewest_words]
        known_rows, own_rows = _values(train, columns), _values(audited.rows, columns)
        if len(columns) == 1:  # as people read it: what else a conversation is written with, all have
            known_rows, own_rows = [(text,) for text in others], [(text,) for text in audited.texts]
        near = first_alike(known_rows, [own_rows[at] for at in open_rows])
        alike = {at: twin for at, twin in zip(open_rows, near, strict=True) if twin is not None and twin < len(train)}
        return [
            self._shared(audited, train, others, "leaks", same, "that are in the training rows too"),
            self._shared(
                audited, train, others, "near_leaks", alike, "that are nearly the same as one of the training rows"
            ),
        ]

    def _shared(
        self, audited: Audited, train: Split, others: list[str], name: str, pairs: dict[int, int], what: str
    ) -> Figure:
        mean = mean_with_interval(np.isin(np.arange(len(audited)), list(pairs)).astype(np.float64))
        return mean.figure(
            f"data.{name}",
            f"Audited texts {what}: {len(pairs):,} of {len(audited):,}."
            + (" What the model makes of them does not tell how it does on new texts." if pairs else ""),
            is_fault=name == "leaks" and bool(pairs),
            examples=[
                audited.example(at, **train.place(place, prefix="training_"), training_text=others[place])
                for at, place in list(pairs.items())[: self.examples]
            ],
        )


def _values(split: Split, columns: Sequence[str]) -> list[tuple[Any, ...]]:
    return list(zip(*(split.columns[name] for name in columns), strict=True))


def _conflicts(audited: Audited) -> Figure:
    task = audited.task
    splits = {"rows": audited.rows} | ({"train": audited.train} if audited.train else {})
    labels = [name for name in task.label_columns() if all(name in split.columns for split in splits.values())]
    count = count_conflicts(splits, lambda split: text_keys(split, task.text_columns()), labels)
    total = sum(map(len, splits.values()))
    where = "the audited and the training" if audited.train else "the audited"
    return Figure(
        "data.conflicts",
        count,
        total,
        f"Texts of which there are copies with another label, in {where} rows: {count:,}.",
        unit="count",
    )


def _classes(audited: Audited) -> list[Figure]:
    """Of runs with classes: those that no row has."""
    names = audited.model.labels
    columns = audited.task.label_columns()
    if audited.classes is None or len(columns) != 1 or not names:
        return []
    counts = np.bincount(audited.classes[0], minlength=len(names))
    lost = [name for name, count in zip(names, counts, strict=True) if not count]
    figures = [
        Figure(
            "data.classes_not_audited",
            len(lost),
            len(names),
            f"Classes without an audited row: {len(lost)} of {len(names)}{_listed(lost)}.",
            sampled="classes",
            unit="count",
        )
    ]
    if audited.train is not None:
        present = {str(value) for value in audited.train.columns[columns[0]]}
        unseen = [name for name in names if str(name) not in present]
        figures.append(
            Figure(
                "data.classes_not_trained",
                len(unseen),
                len(names),
                f"Classes without a training row: {len(unseen)} of {len(names)}{_listed(unseen)}.",
                sampled="classes",
                unit="count",
                is_fault=bool(unseen),
            )
        )
    return figures


def _listed(names: list[str]) -> str:
    if not names:
        return ""
    shown = ", ".join(re.sub(r"\s+", " ", str(name)) for name in names[:10])
    return f" ({shown}" + (f", and {len(names) - 10} more)" if len(names) > 10 else ")")

"""Memorised texts: whether the rows of training can be told from others by the model's answers."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from peftlab.core.audit import AUDITS, Audit, Audited, Figure, Findings, classes_of, errors_of, texts_of
from peftlab.data.columns import take
from peftlab.statistics.out_of_scope import auroc

EXAMPLES = 5
FEWEST_ROWS = 40


@AUDITS.register("memorization")
class Memorization(Audit):
    """Membership inference: how well the rows of training can be told from the audited ones by the model's answers."""

    title = "Memorised texts"
    order = 52

    texts: int = Field(500, ge=FEWEST_ROWS, description="Rows of training at most that are looked at.")

    def why_not(self, audited: Audited) -> str | None:
        """It needs the rows of training, and a probability for each class."""
        if audited.probabilities is None:
            return "the model gives no probabilities of single classes"
        if audited.train is None:
            return "the rows of training cannot be read"
        if min(len(audited.train), len(audited)) < FEWEST_ROWS:
            return f"{FEWEST_ROWS} rows of training and of the audit are needed"
        return None

    def texts_read(self, audited: Audited) -> int:
        """The rows of training."""
        return min(self.texts, len(audited.train or ()))

    def run(self, audited: Audited) -> Findings:
        """Attack by the probability of the right label, which an attacker knows (Yeom et al., CSF 2018)."""
        train = audited.train
        if train is None or audited.probabilities is None or audited.classes is None:
            return Findings(())  # why_not has said so
        chosen = audited.random("memorization").permutation(len(train))[: self.texts]
        train = take(train, np.sort(chosen).tolist())
        predictions = audited.model.predict(train)
        classes = classes_of(predictions, audited.model.labels)
        if classes is None:
            return Findings((), ["Training has rows without one of the classes."])
        known = np.array([each.scores[at] for each, at in zip(predictions, classes[0], strict=True)], dtype=np.float64)
        new = audited.probabilities[np.arange(len(audited)), audited.classes[0]]
        found = auroc(new, known)
        errors = errors_of(audited.task, predictions).mean(), audited.errors.mean()
        surest = np.argsort(-known, kind="stable")[:EXAMPLES].tolist()
        texts = texts_of(train, audited.task)
        return Findings(
            [
                Figure("memorization.membership_auroc", found.value, len(known) + len(new),
                       f"By the probability of the right label, rows of training are told from others with an AUROC of "
                       f"{found.value:.1%} (50 %: not at all; 100 %: always). The error is {errors[0]:.1%} on these "
                       f"rows of training, and {errors[1]:.1%} on the audited ones. A better attack may tell more.",
                       low=found.low, high=found.high,
                       examples=[{**train.place(at, prefix="training_"), "text": texts[at],
                                  "probability_of_label": round(float(known[at]), 4)} for at in surest])
            ]
        )  # fmt: skip

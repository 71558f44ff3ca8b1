"""The keys of self-training, and which texts a teacher is sure enough of."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pydantic import Field, PositiveInt

from peftlab.core.config import Config
from peftlab.core.task import Prediction


class SelfTraining(Config):
    """Learn from texts without labels: a teacher is tuned first, and names the classes of those it is surest of.

    Pseudo-labels (Lee 2013, https://www.kaggle.com/blobs/download/forum-message-attachment-files/746/pseudo_label_final.pdf),
    a share of each class (https://arxiv.org/abs/1810.07911), in rounds.
    """

    rounds: PositiveInt = Field(1, description="Teachers, one after the other; each learns from the one before.")
    share: float = Field(
        0.5, gt=0, le=1, description="Of the texts that are given a class, the surest so many are learned from."
    )
    least_confidence: float = Field(
        0.0, ge=0, lt=1, description="Texts whose class has a lower calibrated probability are left out in any case."
    )


def surest(
    predictions: Sequence[Prediction], labels: Sequence[str], *, share: float, least_confidence: float
) -> list[int]:
    """The positions of the texts to learn from: of every class the same share of those that were given it.

    Args:
        predictions: With a probability for each class.
        labels: Names of the classes, in the order of the probabilities.
        share: Of each class, rounded up.
        least_confidence: What is below this is left out.
    """
    kept: list[int] = []
    for name in labels:
        own = [at for at, each in enumerate(predictions) if each.prediction == name]
        own.sort(key=lambda at: -max(predictions[at].scores))
        wanted = own[: math.ceil(share * len(own) - 1e-9)]  # as floats, 0.07 · 100 is more than 7
        kept += [at for at in wanted if max(predictions[at].scores) >= least_confidence]
    return sorted(kept)

"""Discriminative active learning: texts that can be told apart from those with a label."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
from pydantic import Field, PositiveInt

from peftlab.core.selection import STRATEGIES, Candidates, Choice, Evidence, Strategy

if TYPE_CHECKING:
    from numpy.typing import NDArray


@STRATEGIES.register("discriminative")
class Discriminative(Strategy):
    """Texts that a second classifier tells apart from those with a label."""

    paper: ClassVar[str] = "https://arxiv.org/abs/1907.06347"

    rounds: PositiveInt = Field(
        10, description="The batch is chosen in so many parts; what was chosen counts as labelled for the next part."
    )

    @property
    def uses(self) -> frozenset[Evidence]:
        """Where the texts lie."""
        return frozenset({"vectors", "labelled_vectors"})

    def select(self, candidates: Candidates, count: int, generator: np.random.Generator) -> list[Choice]:
        """By the probability of being one of the texts without a label; logistic regression, no chance in it."""
        everything = np.concatenate([candidates.labelled_vectors, candidates.vectors])
        middle, width = everything.mean(axis=0), everything.std(axis=0).clip(min=1e-12)
        labelled = (candidates.labelled_vectors - middle) / width
        vectors = (candidates.vectors - middle) / width
        left = np.arange(candidates.count)
        choices: list[Choice] = []
        for part in np.array_split(np.arange(count), min(self.rounds, count)):
            unlike = _probability_of_second(labelled, vectors[left])
            order = np.argsort(-unlike, kind="stable")[: len(part)]
            choices += [
                Choice(int(left[at]), float(unlike[at]), f"unlike the texts with a label: probability {unlike[at]:.2f}")
                for at in order
            ]
            labelled = np.concatenate([labelled, vectors[left[order]]])
            left = np.delete(left, order)
        return choices


def _probability_of_second(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """For each of the second rows, how likely it is to be one of them, both kinds having equal weight."""
    from sklearn.linear_model import LogisticRegression

    kinds = np.repeat([0, 1], [len(first), len(second)])
    fitted = LogisticRegression(class_weight="balanced", max_iter=200).fit(np.concatenate([first, second]), kinds)
    return np.asarray(fitted.predict_proba(second)[:, 1])

"""Batches that are uncertain and unlike one another: Zhdanov, https://arxiv.org/abs/1901.05954."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field, PositiveInt

from peftlab.core.selection import Evidence, Strategy

if TYPE_CHECKING:
    from numpy.typing import NDArray


class DiverseStrategy(Strategy):
    """A strategy that gives each text a score, and spreads the batch over the texts with high scores."""

    candidates: PositiveInt = Field(
        10,
        description="So many times the wanted number of texts, those with the highest scores, are grouped by likeness; "
        "each group gives one text. 1: the highest scores alone.",
    )

    @property
    def scored_by(self) -> frozenset[Evidence]:
        """What the scores are made of."""
        return frozenset({"probabilities"})

    @property
    def uses(self) -> frozenset[Evidence]:
        """Vectors too where the batch is spread."""
        return self.scored_by if self.candidates == 1 else self.scored_by | {"vectors"}

    def spread(
        self, scores: NDArray[np.float64], vectors: NDArray[np.float64], count: int, generator: np.random.Generator
    ) -> list[int]:
        """Positions of texts with high scores that are unlike one another, the highest score first.

        Args:
            scores: Of each text, at least 0.
            vectors: Of each text (texts × size).
            count: How many.
            generator: For the first centres.
        """
        best = np.argsort(-scores, kind="stable")[: count * self.candidates]
        if self.candidates == 1 or len(best) == count:
            return [int(at) for at in best[:count]]
        chosen = _one_of_each_group(vectors[best], scores[best], count, generator)
        taken = {int(best[at]) for at in chosen}
        rest = [int(at) for at in best if int(at) not in taken]  # equal vectors make fewer groups than were wanted
        return sorted([*taken, *rest[: count - len(taken)]], key=lambda at: -scores[at])


def _one_of_each_group(
    vectors: NDArray[np.float64], scores: NDArray[np.float64], count: int, generator: np.random.Generator
) -> list[int]:
    """The text nearest to the middle of each of so many groups, found by weighted k-means on directions."""
    import warnings

    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    directions = vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(min=1e-12)
    means = KMeans(count, n_init=1, max_iter=50, random_state=int(generator.integers(2**31)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer different vectors than groups: see ``spread``
        groups = means.fit_predict(directions, sample_weight=scores + 1e-9)
    distances = np.linalg.norm(directions - means.cluster_centers_[groups], axis=1)
    found = []
    for group in np.unique(groups):
        members = np.flatnonzero(groups == group)
        found.append(int(members[np.argmin(distances[members])]))
    return found

"""BADGE: texts whose gradients are large and unlike one another."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from peftlab.core.selection import STRATEGIES, Candidates, Choice, Evidence, Strategy
from peftlab.selection.strategies._wording import torn_between


@STRATEGIES.register("badge")
class Badge(Strategy):
    """Texts that would move the head far and in different directions: k-means++ on gradients."""

    paper: ClassVar[str] = "https://arxiv.org/abs/1906.03671"

    @property
    def uses(self) -> frozenset[Evidence]:
        """A gradient is the outer product of the two."""
        return frozenset({"probabilities", "vectors"})

    def select(self, candidates: Candidates, count: int, generator: np.random.Generator) -> list[Choice]:
        """Seeds of k-means++ on the head's gradients, as if the likeliest class of each text were right.

        The first is drawn evenly, each further one with a probability proportional to the squared distance to the
        nearest of those before. Distances of outer products come from the inner products of their factors, so no
        gradient (classes × size) is ever made.
        """
        errors = candidates.probabilities.copy()
        errors[np.arange(len(errors)), errors.argmax(axis=1)] -= 1
        states = candidates.vectors
        norms = (errors**2).sum(axis=1) * (states**2).sum(axis=1)

        def squared_distances(at: int) -> np.ndarray:
            found = norms + norms[at] - 2 * (errors @ errors[at]) * (states @ states[at])
            found[at] = 0
            return np.asarray(found.clip(min=0))

        chosen = [int(generator.random() * candidates.count)]
        scores = [float(np.sqrt(norms[chosen[0]]))]
        nearest = squared_distances(chosen[0])
        while len(chosen) < count:
            at = _draw(nearest, chosen, generator)
            scores.append(float(np.sqrt(nearest[at])))
            chosen.append(at)
            nearest = np.minimum(nearest, squared_distances(at))
        return [
            Choice(at, score, f"gradient {score:.2f} from those chosen before: {torn}" if rank else f"first: {torn}")
            for rank, (at, score) in enumerate(zip(chosen, scores, strict=True))
            for torn in [torn_between(candidates.probabilities[at], candidates.classes)]
        ]


def _draw(weights: np.ndarray, chosen: list[int], generator: np.random.Generator) -> int:
    """A position by its weight; where all that are left weigh nothing, each is as likely."""
    sums = np.cumsum(weights)
    at = min(int(np.searchsorted(sums, generator.random() * sums[-1])), len(weights) - 1)
    if sums[-1] > 0 and at not in chosen:
        return at
    left = np.setdiff1d(np.arange(len(weights)), chosen)
    return int(left[int(generator.random() * len(left))])

"""The variance of a mean over seeds × examples, where every seed is scored on the same examples.

The model is y_si = μ + a_s + b_i + e_si with random seeds a, random examples b and an interaction e: Searle, Casella
and McCulloch, Variance Components (1992), section 4.7. The two parts below are estimated from its mean squares.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class VarianceOfMean:
    """What the squared standard error of a mean is made of. Arrays have one entry per table of scores.

    Args:
        mean: Mean over seeds and examples.
        seeds: What further seeds would cut: σ²_a / S + σ²_e / (n·S), estimated by MS_seeds / (n·S). Zero for one seed,
            where it cannot be estimated.
        examples: What only further examples would cut: σ²_b / n, estimated by (MS_examples − MS_interaction) / (n·S),
            never below zero.
        seeds_freedom: Degrees of freedom of ``seeds``: S − 1.
        examples_freedom: Degrees of freedom of ``examples``: n − 1, where no caller knows better.
    """

    mean: Floats
    seeds: Floats
    examples: Floats
    seeds_freedom: int
    examples_freedom: int | NDArray[np.int64]

    @property
    def total(self) -> Floats:
        """The squared standard error."""
        return np.asarray(self.seeds + self.examples)

    @property
    def seed_share(self) -> Floats:
        """Share of the seeds in the total, 0 to 1; where nothing varies, 0."""
        return np.divide(self.seeds, self.total, out=np.zeros_like(self.total), where=self.total > 0)


def variance_of_mean(scores: Floats) -> VarianceOfMean:
    """Split the variance of the mean of crossed scores.

    Args:
        scores: … × seeds × examples.

    Raises:
        ValueError: There are fewer than two examples or no seed, or a score is not finite.
    """
    scores = np.asarray(scores, dtype=np.float64)
    if scores.ndim < 2 or scores.shape[-2] < 1 or scores.shape[-1] < 2:
        raise ValueError(f"Scores must be seeds × examples with at least two examples, not {scores.shape}.")
    if not np.isfinite(scores).all():
        raise ValueError("A score is not finite.")
    seeds, examples = scores.shape[-2:]
    mean = scores.mean(axis=(-2, -1))
    centred = scores - mean[..., None, None]
    of_seeds = centred.mean(axis=-1)
    of_examples = centred.mean(axis=-2)
    square_examples = seeds * np.sum(of_examples**2, axis=-1) / (examples - 1)
    if seeds == 1:
        return VarianceOfMean(mean, np.zeros_like(mean), square_examples / examples, 0, examples - 1)
    sum_seeds = examples * np.sum(of_seeds**2, axis=-1)
    square_seeds = sum_seeds / (seeds - 1)
    sum_interaction = np.einsum("...si,...si->...", centred, centred) - sum_seeds - square_examples * (examples - 1)
    square_interaction = np.maximum(sum_interaction, 0) / ((seeds - 1) * (examples - 1))
    cells = seeds * examples
    of_both = np.maximum(square_examples - square_interaction, 0) / cells
    return VarianceOfMean(mean, square_seeds / cells, of_both, seeds - 1, examples - 1)

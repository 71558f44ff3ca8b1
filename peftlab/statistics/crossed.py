"""The variance of a mean over seeds × examples, where every seed is scored on the same examples.

The model is y_si = μ + a_s + b_i + e_si with random seeds a, random examples b and an interaction e: Searle, Casella
and McCulloch, Variance Components (1992), section 4.7. The two parts below are estimated from its mean squares.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
ROUNDING = 1e-9
"""A variance that is so small a share of another one is none."""


@dataclass(frozen=True)
class MeanSquares:
    """The mean squares of crossed scores, with the mean. Arrays have one entry per table of scores.

    Args:
        mean: Mean over seeds and examples.
        seeds: With S − 1 degrees of freedom; zero for one seed.
        examples: With n − 1 degrees of freedom.
        interaction: With (S − 1)(n − 1) degrees of freedom; zero for one seed.
    """

    mean: Floats
    seeds: Floats
    examples: Floats
    interaction: Floats


@dataclass(frozen=True)
class VarianceOfMean:
    """What the squared standard error of a mean is made of. Arrays have one entry per table of scores.

    Args:
        mean: Mean over seeds and examples.
        seeds: What further seeds would cut: σ²_a / S + σ²_e / (n·S), estimated by MS_seeds / (n·S). Zero for one seed,
            where it cannot be estimated.
        examples: What only further examples would cut: σ²_b / n, estimated by (MS_examples − MS_interaction) / (n·S),
            never below zero. Where both parts would be zero, it is what the interaction adds: see ``at_least``.
        seeds_freedom: Degrees of freedom of ``seeds``: S − 1, where no caller knows better.
        examples_freedom: Degrees of freedom of ``examples``: n − 1, where no caller knows better.
    """

    mean: Floats
    seeds: Floats
    examples: Floats
    seeds_freedom: int | Floats
    examples_freedom: int | NDArray[np.int64]

    @property
    def total(self) -> Floats:
        """The squared standard error."""
        return np.asarray(self.seeds + self.examples)

    @property
    def seed_share(self) -> Floats:
        """Share of the seeds in the total, 0 to 1; where nothing varies, 0."""
        return np.divide(self.seeds, self.total, out=np.zeros_like(self.total), where=self.total > 0)


def mean_squares(scores: Floats) -> MeanSquares:
    """Split the variation of crossed scores.

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
    square_examples = seeds * np.sum(centred.mean(axis=-2) ** 2, axis=-1) / (examples - 1)
    if seeds == 1:
        return MeanSquares(mean, np.zeros_like(mean), square_examples, np.zeros_like(mean))
    sum_seeds = examples * np.sum(centred.mean(axis=-1) ** 2, axis=-1)
    sum_interaction = np.einsum("...si,...si->...", centred, centred) - sum_seeds - square_examples * (examples - 1)
    square_interaction = np.maximum(sum_interaction, 0) / ((seeds - 1) * (examples - 1))
    return MeanSquares(mean, sum_seeds / (seeds - 1), square_examples, square_interaction)


def variance_of_mean(scores: Floats) -> VarianceOfMean:
    """Split the variance of the mean of crossed scores, … × seeds × examples: see ``mean_squares``."""
    squares = mean_squares(scores)
    seeds, examples = np.shape(scores)[-2:]
    cells = seeds * examples
    of_seeds, of_interaction = squares.seeds / cells, squares.interaction / cells
    of_both = at_least(np.maximum(squares.examples - squares.interaction, 0) / cells, of_seeds, of_interaction)
    return VarianceOfMean(squares.mean, of_seeds, of_both, seeds - 1, examples - 1)


def at_least(of_examples: Floats, of_seeds: Floats, of_interaction: Floats) -> Floats:
    """The examples' part; where it and the seeds' are zero, the interaction's, below which no true variance lies.

    Two seeds have the same mean by chance now and then. Where they err on other examples, too, nothing would be left.

    Args:
        of_examples: Part of a squared standard error, never below zero.
        of_seeds: The other part.
        of_interaction: σ²_e / (n·S), which is in the seeds' part but for chance.
    """
    is_lost = of_seeds + of_examples <= ROUNDING * of_interaction
    return np.asarray(np.where(is_lost, of_interaction, of_examples))

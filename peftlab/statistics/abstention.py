"""How far scores can be trusted as probabilities, and what is left where a model may abstain."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from peftlab.statistics.proportions import wilson_interval

Floats = NDArray[np.float64]
BINS = 15
"""As in the calibration that a run records."""
NORMAL = 1.959963984540054
"""Half the width of a 95 % interval, in standard errors."""


def calibration_error(confidences: Floats, right: Floats, bins: int = BINS) -> float:
    """The expected calibration error (Naeini et al., AAAI 2015): bins of equal width, weighted by their rows.

    Args:
        confidences: Probability of the answer (rows).
        right: 1 where the answer is right, else 0 (rows).
        bins: How many.
    """
    at = np.minimum((confidences * bins).astype(int), bins - 1)
    return float(np.abs(np.bincount(at, weights=confidences - right, minlength=bins)).sum() / len(right))


@dataclass(frozen=True)
class CalibrationTest:
    """A calibration error against what chance gives a calibrated model.

    Args:
        low: Lower end of the error's 95 % interval.
        high: Upper end.
        p_value: That it is at most a tolerance above what chance gives.
    """

    low: float
    high: float
    p_value: float


def judge_calibration(
    confidences: Floats, right: Floats, tolerance: float, generator: np.random.Generator, draws: int = 1000
) -> CalibrationTest:
    """Whether a calibration error is more than chance, and how large the true one may be.

    Answers are drawn as right with the probability that the model states, and the error is computed of each draw
    (consistency resampling: Bröcker and Smith, Weather and Forecasting 22, 2007). Of a few hundred rows a calibrated
    model has an error of some points by chance, since each bin's distance counts without its sign. So the lower end
    takes off what chance alone may add (97.5 % of the draws are below it); the upper one is the normal interval's, by
    drawing rows with replacement, and is high rather than low.
    """
    observed = calibration_error(confidences, right)
    # One at a time, since all together would be a thousand times the rows.
    chance = np.array(
        [
            calibration_error(confidences, (generator.random(len(right)) < confidences).astype(np.float64))
            for _ in range(draws)
        ]
    )
    high = observed + NORMAL * bootstrap_error(calibration_error, confidences, right, generator) + unseen(right)
    return CalibrationTest(
        low=max(observed - float(np.quantile(chance, 0.975)), 0.0),
        high=min(high, 1.0),
        p_value=(1 + int((chance >= observed - tolerance).sum())) / (draws + 1),
    )


def unseen(right: Floats) -> float:
    """The share of the answers that may be wrong where none is, or right where none is (95 %); else 0."""
    return 0.0 if right.std() else wilson_interval(0, len(right))[1]


def risk_by_coverage(confidences: Floats, errors: Floats) -> Floats:
    """The mean error of the k surest answers, for k = 1 … rows; equally sure ones count with their mean error."""
    order = np.argsort(-confidences, kind="stable")
    _, groups, sizes = np.unique(-confidences[order], return_inverse=True, return_counts=True)
    means = np.bincount(groups, weights=errors[order]) / sizes
    return np.asarray(np.cumsum(means[groups]) / np.arange(1, len(errors) + 1))


def area_under_risk(confidences: Floats, errors: Floats) -> float:
    """The area under the curve of risk against coverage (AURC: Geifman et al., ICLR 2019); 0 is best."""
    return float(risk_by_coverage(confidences, errors).mean())


def bootstrap_error(
    statistic: Callable[[Floats, Floats], float], first: Floats, second: Floats, generator: np.random.Generator,
    draws: int = 200,
) -> float:  # fmt: skip
    """The standard error of a statistic of rows, by drawing them with replacement."""
    drawn = (generator.integers(len(first), size=len(first)) for _ in range(draws))
    return float(np.std([statistic(first[rows], second[rows]) for rows in drawn], ddof=1))


def conformal_threshold(scores: Floats, coverage: float) -> float:
    """The quantile of split-conformal prediction (Vovk et al., Algorithmic Learning in a Random World, 2005).

    Args:
        scores: How strange the right answer is to the model, for each row of the half that sets the threshold.
        coverage: Share of new rows of which the right answer shall be at most so strange.

    Returns:
        The ⌈(n + 1) · coverage⌉-th smallest score; infinite where there are too few rows for such a coverage.
    """
    rank = math.ceil((len(scores) + 1) * coverage - 1e-9)
    return math.inf if rank > len(scores) else float(np.sort(scores)[max(rank, 1) - 1])


def conformal_sets(setting: Floats, right: NDArray[np.int64], new: Floats, coverage: float) -> NDArray[np.bool_]:
    """Sets of classes that hold the right one of new rows with a given probability, whatever the model is.

    Args:
        setting: Probabilities of the rows that set the threshold (rows × classes).
        right: Their right classes (rows).
        new: Probabilities of other rows of the same kind (rows × classes).
        coverage: Aimed at.

    Returns:
        Which classes belong to each new row's set (rows × classes).
    """
    threshold = conformal_threshold(1 - setting[np.arange(len(right)), right], coverage)
    return np.asarray(1 - new <= threshold)

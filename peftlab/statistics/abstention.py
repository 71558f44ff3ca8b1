"""How far scores can be trusted as probabilities, and what is left where a model may abstain."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from peftlab.statistics.proportions import wilson_interval

Floats = NDArray[np.float64]
BINS = 15
"""As in the calibration that a run records."""
NORMAL = 1.959963984540054
"""Half the width of a 95 % interval, in standard errors."""


Binned = Callable[[Floats], NDArray[np.int64]]
"""The bin of each confidence, from 0."""


def bins_of_equal_width(confidences: Floats) -> NDArray[np.int64]:
    """As in the usual calibration error."""
    return np.minimum((confidences * BINS).astype(np.int64), BINS - 1)


def bins_of_equal_size(confidences: Floats) -> NDArray[np.int64]:
    """With about as many rows each, as in the adaptive calibration error (Nixon et al., CVPR workshops 2019).

    Most answers of a good model are sure ones: in bins of equal width nearly all would share one. Equal confidences
    stay in one bin, so that the order of the rows says nothing.
    """
    _, groups, sizes = np.unique(confidences, return_inverse=True, return_counts=True)
    middles = np.cumsum(sizes) - sizes / 2
    return np.asarray(np.minimum((middles * BINS / len(confidences)).astype(np.int64), BINS - 1)[groups])


def calibration_error(confidences: Floats, right: Floats, binned: Binned = bins_of_equal_width) -> float:
    """The expected calibration error (Naeini et al., AAAI 2015): the distance of each bin, weighted by its rows.

    Args:
        confidences: Probability of the answer (rows).
        right: 1 where the answer is right, else 0 (rows).
        binned: Parts the rows.
    """
    return _error_of_bins(binned(confidences), confidences, right)


def _error_of_bins(bins: NDArray[np.int64], confidences: Floats, right: Floats) -> float:
    return float(np.abs(np.bincount(bins, weights=confidences - right, minlength=BINS)).sum() / len(right))


def brier_scores(probabilities: Floats, right: NDArray[np.int64]) -> Floats:
    """The squared distance of each row's probabilities from what is right (Brier, Monthly Weather Review 78, 1950).

    It is half the sum over both of two classes, and the sum over more, as scikit-learn has it: 0 to 1, or 0 to 2.

    Args:
        probabilities: Rows × classes.
        right: Right classes (rows).
    """
    apart = probabilities.copy()
    apart[np.arange(len(right)), right] -= 1
    return np.asarray((apart**2).sum(axis=1) / (2 if probabilities.shape[1] == 2 else 1))


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
    confidences: Floats, right: Floats, tolerance: float, generator: np.random.Generator, draws: int = 1000, *,
    binned: Binned = bins_of_equal_width,
) -> CalibrationTest:  # fmt: skip
    """Whether a calibration error is more than chance, and how large the true one may be.

    Answers are drawn as right with the probability that the model states, and the error is computed of each draw
    (consistency resampling: Bröcker and Smith, Weather and Forecasting 22, 2007). Of a few hundred rows a calibrated
    model has an error of some points by chance, since each bin's distance counts without its sign. So the lower end
    takes off what chance alone may add (97.5 % of the draws are below it); the upper one is the normal interval's, by
    drawing rows with replacement, and is high rather than low.
    """
    bins, measure = binned(confidences), partial(calibration_error, binned=binned)
    observed = measure(confidences, right)
    # One at a time, since all together would be a thousand times the rows.
    drawn = ((generator.random(len(right)) < confidences).astype(np.float64) for _ in range(draws))
    chance = np.array([_error_of_bins(bins, confidences, own) for own in drawn])
    high = observed + NORMAL * bootstrap_error(measure, confidences, right, generator) + unseen(right)
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

"""What a sequence of tasks has come to: mean score, forgetting, backward and forward transfer.

With R[i, j] the score on task j after task i was learned (both from 0, and T tasks), as the field defines them:
Lopez-Paz and Ranzato 2017 (https://arxiv.org/abs/1706.08840) for the mean and both transfers, Chaudhry et al. 2018
(https://arxiv.org/abs/1801.10112) for forgetting. A higher score is better.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class SequenceFigures:
    """The figures of one sequence.

    Args:
        mean: Of the scores on all tasks after the last one.
        forgetting: Mean over the earlier tasks of the best score before the last task, less the last score.
        backward: Mean over the earlier tasks of the last score, less the one just after the task was learned.
        forward: Mean over the later tasks of the score before the task was learned, less the untrained model's; NaN
            where that is not known.
    """

    mean: float
    forgetting: float
    backward: float
    forward: float


def sequence_figures(scores: Matrix, untrained: Matrix | None = None) -> SequenceFigures:
    """The figures of a matrix of scores.

    Args:
        scores: Tasks × tasks; above the diagonal only the entry next to it is looked at, and may be NaN.
        untrained: On each task the score of a model before any training; None: not known.

    Raises:
        ValueError: The matrix is not square, has fewer than two tasks, or lacks a score on or below the diagonal.
    """
    count = len(scores)
    if scores.shape != (count, count) or count < 2:
        raise ValueError(f"a square matrix of two tasks at least is needed, not {scores.shape}")
    if np.isnan(scores[np.tril_indices(count)]).any():
        raise ValueError("a score of a task that was learned is missing")
    last, earlier = scores[-1], range(count - 1)
    best = np.array([scores[at:-1, at].max() for at in earlier])
    forward = np.nan
    if untrained is not None:
        forward = float(np.mean([scores[at - 1, at] - untrained[at] for at in range(1, count)]))
    return SequenceFigures(
        mean=float(last.mean()),
        forgetting=float((best - last[:-1]).mean()),
        backward=float((last - np.diagonal(scores))[:-1].mean()),
        forward=forward,
    )

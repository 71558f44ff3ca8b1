"""Where a run stands: its last step, and the best state so far."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Progress:
    """Where a run stands.

    Args:
        step: The last one that was done.
        best_step: That is kept.
        best_score: Of the metric there; None: the metric was not defined in any evaluation.
        best_loss: Mean validation loss there, where it is measured.
        tied_steps: All steps with that score; of them the one with the least loss is kept.
        evaluations_without_gain: Since the score last rose.
        stopped_early: Whether that were too many, or a callback wants it so.
        stopped_by: The name of that callback.
    """

    step: int = 0
    best_step: int | None = None
    best_score: float | None = None
    best_loss: float | None = None
    tied_steps: list[int] = field(default_factory=list)
    evaluations_without_gain: int = 0
    stopped_early: bool = False
    stopped_by: str | None = None

    def is_gain(self, score: float | None, *, higher_is_better: bool) -> bool:
        """Whether a score is the first one, or better than all before."""
        if self.best_step is None:
            return True
        if score is None or self.best_score is None:
            return score is not None
        return score > self.best_score if higher_is_better else score < self.best_score

"""What ``peftlab tune`` has found."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class SearchResult:
    """What a search has found.

    Args:
        recipe: The file with the best settings.
        metric: By which trials were judged, on the validation split.
        settings: The best ones, by the recipe's keys.
        best_score: The winner's score in its trial: the best of many, so too good.
        fresh_scores: The winner's scores with fresh seeds, by seed.
        own_score: Of the recipe's own settings in their trial; None where these were not tried or did not come through.
        tied: How many complete trials have the best score, the winner among them; the first of them wins.
        trials: How many ended how: complete, pruned, failed.
        seconds: Of all trials.
    """

    recipe: Path
    metric: str
    settings: dict[str, Any]
    best_score: float
    fresh_scores: dict[int, float]
    own_score: float | None
    tied: int
    trials: dict[str, int]
    seconds: float

    @property
    def fresh_mean(self) -> float | None:
        """The mean over the fresh seeds; None where no run with them came through."""
        return statistics.fmean(self.fresh_scores.values()) if self.fresh_scores else None

    @property
    def tie(self) -> str | None:
        """That the score did not choose the winner; None where one trial is the best."""
        if self.tied < 2:
            return None
        if self.tied == self.trials["complete"]:
            return f"all {self.tied} trials have this score, so nothing was chosen: train longer, or widen the space"
        return f"{self.tied} trials have this score; the first of them was taken"

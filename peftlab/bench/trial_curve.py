"""A running trial's validation scores, read as they come and told to Optuna."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class TrialCurve:
    """A trial's validation scores as they come, told to Optuna, whose pruner may end the trial.

    An evaluation can end the trial once training has gone on behind it: the last one of a run never does. So what is
    pruned does not depend on when this is asked.

    Args:
        log: The run's ``metrics.jsonl``.
        metric: By which trials are judged.
        trial: An :class:`optuna.Trial`.
        told: So many evaluations were told before the search was taken up again.
    """

    log: Path
    metric: str
    trial: Any
    told: int = 0
    last: float = field(default=float("nan"), init=False)
    _seen: int = field(default=0, init=False)
    _is_over: bool = field(default=False, init=False)

    def goes_on(self) -> bool:
        """Look at new evaluations; False once the pruner has ended the trial."""
        scores, is_followed = self._scores()
        for at, score in enumerate(scores if is_followed else scores[:-1], 1):
            if at > self._seen and not self._is_over:
                self._tell(at, score)
                self._is_over = bool(self.trial.should_prune())
        return not self._is_over

    def finish(self) -> None:
        """Tell of the last evaluation of a run that has come to its end."""
        for at, score in enumerate(self._scores()[0], 1):
            if at > self._seen:
                self._tell(at, score)

    def _tell(self, at: int, score: float | None) -> None:
        self._seen = at
        if score is None:
            return
        self.last = score
        if at > self.told:
            self.trial.report(score, at)

    def _scores(self) -> tuple[list[float | None], bool]:
        """The scores so far, None where the metric is not defined; and whether a step was logged after the last."""
        scores: list[float | None] = []
        is_followed = False
        for line in self.log.read_text(encoding="utf-8").splitlines() if self.log.exists() else []:
            try:
                values = json.loads(line)
            except ValueError:  # it is being written
                break
            is_followed = "validation" not in values
            if not is_followed:
                scores.append(values["validation"].get(self.metric))
        return scores, is_followed

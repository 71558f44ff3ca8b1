"""A greedy soup of checkpoints: the run leaves the mean of those of its weights that do no harm on the validation rows.

Wortsman et al. 2022 (https://arxiv.org/abs/2203.05482) take runs of several settings. Here the ingredients are the
weights that one run has evaluated, as in stochastic weight averaging.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field, PrivateAttr

from peftlab.core.greedy_choice import choose_greedily
from peftlab.core.hooks import ScoreOf
from peftlab.core.method import MethodContext
from peftlab.core.regularizer import REGULARIZERS, Regularizer, TrainingSetup
from peftlab.regularizers._averages import refuse_pruning, trained_weights

if TYPE_CHECKING:
    from torch import Tensor, nn

SCORES, STEPS = "scores", "steps"
EMPTY = -sys.float_info.max
"""The score of a place that holds no weights yet: a number, as all that a checkpoint holds."""


@REGULARIZERS.register("greedy_soup")
class GreedySoup(Regularizer):
    """Greedy soup: the run leaves the mean of those evaluated weights that do no harm on the validation rows."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2203.05482"
    memory: ClassVar[str] = "five copies of what trains"
    replayable: ClassVar[bool] = True
    needs_validation: ClassVar[bool] = True

    most: int = Field(5, ge=2, description="Of the evaluated weights so many are kept, those with the best scores.")

    _kept: dict[str, Tensor] = PrivateAttr(default_factory=dict)
    _notices: dict[str, str] = PrivateAttr(default_factory=dict)

    def check(self, setup: TrainingSetup) -> None:
        """Refuse methods that change their own structure while they train."""
        refuse_pruning(self.registered_name, setup)

    def begin(self, model: nn.Module, context: MethodContext) -> None:
        """Take the room for all copies at once, so that memory is what it will be."""
        import torch

        weights = trained_weights(model)
        self._kept = {
            f"{place}/{name}": torch.zeros_like(weight)
            for place in range(self.most)
            for name, weight in weights.items()
        }
        self._kept[SCORES] = torch.full((self.most,), EMPTY, dtype=torch.float64)
        self._kept[STEPS] = torch.zeros(self.most, dtype=torch.int64)

    def after_evaluation(self, model: nn.Module, step: int, score: float) -> None:
        """Copy the weights, in the place of the worst, unless they are worse still."""
        scores = self._kept[SCORES]
        place = int(scores.argmin())
        if score < float(scores[place]):
            return
        scores[place], self._kept[STEPS][place] = score, step
        for name, weight in trained_weights(model).items():
            self._kept[f"{place}/{name}"].copy_(weight)

    def weights_at_end(self, model: nn.Module, score_of: ScoreOf) -> dict[str, Tensor]:
        """The mean of what was chosen; nothing where the best weights alone are left."""
        import torch

        scores = self._kept[SCORES].tolist()
        places = [place for place, score in enumerate(scores) if score > EMPTY]
        names = list(trained_weights(model))

        def mean(chosen: Sequence[int]) -> dict[str, Tensor]:
            parts = [places[at] for at in chosen]
            return {name: torch.stack([self._kept[f"{at}/{name}"] for at in parts]).mean(0) for name in names}

        if not places:
            return {}
        chosen = choose_greedily([scores[place] for place in places], lambda some: score_of(mean(some)))
        steps = sorted(int(self._kept[STEPS][places[at]]) for at in chosen)
        self._notices = {"greedy_soup": f"the weights after the steps {', '.join(map(str, steps))} make the soup"}
        if len(chosen) == 1:
            self._notices = {"greedy_soup": "no mean of evaluated weights is as good on validation as the best alone"}
            return {}
        return mean(chosen)

    def notices(self) -> Mapping[str, str]:
        """Which steps are in the soup."""
        return self._notices

    def state(self, model: nn.Module) -> Mapping[str, Tensor]:
        """The copies, with their scores and steps."""
        return self._kept

    def restore(self, model: nn.Module, state: Mapping[str, Tensor]) -> None:
        """Take them up, on the device of the weights."""
        self._kept = {name: value.to(self._kept[name].device, copy=True) for name, value in state.items()}

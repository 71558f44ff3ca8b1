"""R-Drop: two passes with other dropout shall agree (Liang et al. 2021, https://arxiv.org/abs/2106.14448)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, PositiveFloat, PrivateAttr

from peftlab.core.errors import UnsupportedError
from peftlab.core.generators import generator_states, have_moved
from peftlab.core.hooks import Backward
from peftlab.core.regularizer import REGULARIZERS, TrainingSetup
from peftlab.core.tensors import has_values
from peftlab.regularizers._classes import NeedsClasses, symmetric_divergence

if TYPE_CHECKING:
    from torch import Tensor, nn


@REGULARIZERS.register("r_drop")
class RDrop(NeedsClasses):
    """R-Drop: each text is learned twice at once, and both answers shall agree although dropout differs."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2106.14448"
    passes: ClassVar[float] = 2.0
    memory: ClassVar[str] = "the activations of a second pass"
    replaces_loss: ClassVar[bool] = True

    alpha: PositiveFloat = Field(1.0, description="Weight of the divergence; the paper takes 0.5 to 5.")

    _drops: bool = PrivateAttr(False)

    def check(self, setup: TrainingSetup) -> None:
        """Refuse runs without dropout: both passes would be the same."""
        super().check(setup)
        if not setup.has_dropout:
            raise UnsupportedError(
                "r_drop compares two passes that differ by their dropout, and this run has none",
                hint="Set model.dropout, such as to 0.1; over a frozen base it is 0 where nothing is said.",
            )

    def around_backward(self, backward: Backward, model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """The mean loss of two passes, and α times their symmetric divergence.

        Raises:
            UnsupportedError: Nothing is drawn in the first pass, so the second one is the same.
        """
        task = backward.task

        def loss(model: Any, batch: Mapping[str, Tensor]) -> Tensor:
            before = None if self._drops else generator_states()
            one = task.logits(model, batch)
            if before is not None:
                self._see_draws(before, one)
            other = task.logits(model, batch)
            divergence = symmetric_divergence(task.class_terms(one, batch)[0], task.class_terms(other, batch)[0])
            return (task.loss(one, batch) + task.loss(other, batch)) / 2 + self.alpha * divergence / 2

        return backward(loss)

    def _see_draws(self, before: Mapping[str, Tensor], logits: Tensor) -> None:
        """See that a pass has drawn something: a config may name rates that its model does not use."""
        if not has_values(logits):  # an estimate's, which draws nothing
            return
        if not have_moved(before):
            raise UnsupportedError(
                "r_drop compares two passes that differ by their dropout, and this model drops nothing",
                where="training.regularizers",
                hint="Leave it out, or choose a method with a dropout of its own, as `method: {type: lora, dropout: "
                "0.1}`.",
            )
        self._drops = True

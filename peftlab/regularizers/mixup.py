"""Mixup of hidden states (Sun et al. 2020, https://arxiv.org/abs/2010.02394, after Zhang et al. 2018).

Mixed are the hidden states before the last linear layer. What a linear layer makes of a mixture is the mixture of what
it makes of each. So the logits are mixed: the same numbers, whatever the model calls its layers. A text meets those
that are computed with it at once: those of its micro-batch, where there are any.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, PositiveFloat

from peftlab.core.errors import UnsupportedError
from peftlab.core.hooks import Backward
from peftlab.core.regularizer import REGULARIZERS, TrainingSetup
from peftlab.core.task_objective import SOFT_TARGETS
from peftlab.regularizers._classes import NeedsClasses

if TYPE_CHECKING:
    from torch import Tensor, nn


@REGULARIZERS.register("mixup")
class Mixup(NeedsClasses):
    """Mixup: hidden states of two texts are mixed, and so are their classes."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2010.02394"
    replaces_loss: ClassVar[bool] = True
    outermost: ClassVar[bool] = True
    least_batch: ClassVar[int] = 2

    alpha: PositiveFloat = Field(
        0.2, description="The share of one text is drawn from Beta(α, α): the smaller, the nearer to 0 or 1."
    )

    def check(self, setup: TrainingSetup) -> None:
        """Refuse tasks that decide on tokens or on windows: those of two texts do not stand for one another."""
        super().check(setup)
        if setup.task.peft_task_type != "SEQ_CLS":
            raise UnsupportedError(
                "mixup needs a task with one class a text", hint="Leave it out, or choose label_smoothing or r_drop."
            )
        if not setup.task.one_row_an_example:
            raise UnsupportedError(
                "mixup mixes texts that are read at once, and here a text has several windows",
                hint="Leave it out, or set task.windows to null.",
            )

    def around_backward(self, backward: Backward, model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """The loss of each text mixed with another one of the batch, for both their classes."""
        import torch

        task, texts = backward.task, len(batch["labels"])
        share = torch.distributions.Beta(self.alpha, self.alpha, validate_args=False).sample()
        other = torch.randperm(texts).to(batch["labels"].device)

        def loss(model: Any, batch: Mapping[str, Tensor]) -> Tensor:
            logits = task.logits(model, batch)
            mixed = share * logits + (1 - share) * logits[other]
            theirs = {**batch, **{name: batch[name][other] for name in ("labels", SOFT_TARGETS) if name in batch}}
            return share * task.loss(mixed, batch) + (1 - share) * task.loss(mixed, theirs)

        return backward(loss)

"""What the regularisers have in common that compare probabilities of classes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from peftlab.core.errors import UnsupportedError
from peftlab.core.regularizer import Regularizer, TrainingSetup

if TYPE_CHECKING:
    from torch import Tensor


class NeedsClasses(Regularizer):
    """For tasks in which each target is one class."""

    def check(self, setup: TrainingSetup) -> None:
        """Refuse tasks whose targets are no classes."""
        if not setup.task.has_class_targets:
            raise UnsupportedError(
                f"{self.registered_name} needs a task in which each target is one class, and whose loss is of the "
                f"classes' probabilities: {setup.task.registered_name} has none here",
                hint="Leave it out, or choose such a task: text_classification with one class a text, for example.",
            )


def symmetric_divergence(one: Tensor, other: Tensor) -> Tensor:
    """KL(p ‖ q) + KL(q ‖ p), summed over all terms, of two tensors of logits (terms × classes)."""
    from torch.nn import functional

    p, q = one.log_softmax(dim=-1), other.log_softmax(dim=-1)
    there = functional.kl_div(q, p, reduction="sum", log_target=True)
    return there + functional.kl_div(p, q, reduction="sum", log_target=True)

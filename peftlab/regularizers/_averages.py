"""What averages of weights have in common: the mean is kept beside the model, and is what the run leaves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from pydantic import PrivateAttr

from peftlab.core.errors import UnsupportedError
from peftlab.core.regularizer import Regularizer, TrainingSetup

if TYPE_CHECKING:
    from torch import Tensor, nn


class WeightAverage(Regularizer):
    """A mean of the trained weights; a subclass says in ``after_step`` of which."""

    memory: ClassVar[str] = "one copy of what trains"
    replayable: ClassVar[bool] = True

    _mean: dict[str, Tensor] = PrivateAttr(default_factory=dict)

    def check(self, setup: TrainingSetup) -> None:
        """Refuse methods that change their own structure while they train."""
        refuse_pruning(self.registered_name, setup)

    def state(self, model: nn.Module) -> dict[str, Tensor]:
        """The mean so far."""
        return self._mean

    def restore(self, model: nn.Module, state: Mapping[str, Tensor]) -> None:
        """Take a mean up, on the device of the weights."""
        weights = trained_weights(model)
        self._mean = {name: mean.to(weights[name].device, copy=True) for name, mean in state.items()}

    def weights_to_keep(self, model: nn.Module) -> dict[str, Tensor]:
        """The mean; before the first one the weights as they are."""
        return self._mean

    def _move_mean(self, model: nn.Module, share: float) -> None:
        """Move the mean by a share of the way to the weights as they are; the first one is a copy of them."""
        import torch

        weights = trained_weights(model)
        if not self._mean:
            self._mean = {name: weight.clone() for name, weight in weights.items()}
            return
        torch._foreach_lerp_(list(self._mean.values()), [weights[name] for name in self._mean], share)


def refuse_pruning(name: str, setup: TrainingSetup) -> None:
    """Refuse methods that prune: what they have set to zero would come back.

    Args:
        name: Of the regulariser.
        setup: With the method.

    Raises:
        UnsupportedError: The method prunes.
    """
    if not setup.method.can_be_averaged:
        raise UnsupportedError(
            f"{setup.method.registered_name} prunes while it trains, and {name} would undo that",
            hint="Leave it out, or choose another method, such as lora.",
        )


def trained_weights(model: nn.Module) -> dict[str, Tensor]:
    """The weights that train, by name, without a graph."""
    return {name: parameter.detach() for name, parameter in model.named_parameters() if parameter.requires_grad}

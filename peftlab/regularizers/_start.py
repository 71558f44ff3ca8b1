"""Where the trained weights started, for the regularisers that go back to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from pydantic import PrivateAttr

from peftlab.core.method import MethodContext
from peftlab.core.regularizer import Regularizer
from peftlab.regularizers._averages import trained_weights

if TYPE_CHECKING:
    from torch import Tensor, nn


class KeepsStart(Regularizer):
    """Keeps a copy of the trained weights as they were before the first step."""

    memory: ClassVar[str] = "one copy of what trains"
    replayable: ClassVar[bool] = True

    _start: dict[str, Tensor] = PrivateAttr(default_factory=dict)

    @property
    def start(self) -> Mapping[str, Tensor]:
        """The weights by name."""
        return self._start

    def begin(self, model: nn.Module, context: MethodContext) -> None:
        """Copy the weights."""
        self._start = {name: weight.clone() for name, weight in trained_weights(model).items()}

    def state(self, model: nn.Module) -> Mapping[str, Tensor]:
        """The copy: a checkpoint needs no look at the base to know it."""
        return self._start

    def restore(self, model: nn.Module, state: Mapping[str, Tensor]) -> None:
        """Take the copy up, on the device of the weights."""
        weights = trained_weights(model)
        self._start = {name: value.to(weights[name].device, copy=True) for name, value in state.items()}

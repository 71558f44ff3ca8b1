"""LoRA-GA: LoRA that begins with the directions of the first gradient.

Wang et al. 2024, https://arxiv.org/abs/2407.05000. The gradient of each matrix over some training rows is G ≈ U S Vᵀ. A
begins with the first ``rank`` rows of Vᵀ, and B with the next ``rank`` columns of U, both times d_out^¼ / √γ, as in the
paper's code: so the first step of the update is near that of full tuning. B A is taken out of the frozen matrix, and
the model computes as its base at first.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, cast

from pydantic import Field, PositiveFloat, PositiveInt

from peftlab.core.errors import DataError
from peftlab.core.generators import kept_generators
from peftlab.core.hooks import TrainingRows
from peftlab.core.method import METHODS
from peftlab.core.tensors import has_values
from peftlab.methods._moved_start import StartsFromRows

if TYPE_CHECKING:
    from torch import Tensor, nn

SEED = 0
"""Of the random projections of the decomposition."""


@METHODS.register("lora_ga")
class LoraGa(StartsFromRows):
    """LoRA-GA: LoRA whose first step is near that of full tuning, by the gradient of some training rows."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2407.05000"
    default_learning_rate: ClassVar[float] = 1e-3

    rows: PositiveInt = Field(64, description="Training rows that the gradient is taken over.")
    gamma: PositiveFloat = Field(16.0, description="A larger one begins with a smaller update: the paper's γ.")

    @property
    def ranks_taken(self) -> int:
        """A and B begin with different directions of the gradient."""
        return 2 * self.rank

    def bytes_kept(self, layer: Any) -> int:
        """The gradient of its matrix."""
        return int(4 * layer.in_features * layer.out_features)

    def factors(
        self, layers: Mapping[str, Any], model: nn.Module, rows: TrainingRows
    ) -> dict[str, tuple[Tensor, Tensor]]:
        """Directions of each matrix's gradient, as A and B.

        Raises:
            DataError: A matrix gets no gradient, or one that is no number.
            UnsupportedError: The task has no loss of its rows alone.
        """
        found = _gradients(layers, model, rows, self.rows)
        return {name: self._directions(name, found.get(name)) for name in layers}

    def _directions(self, name: str, gradient: Tensor | None) -> tuple[Tensor, Tensor]:
        import torch

        if gradient is None or (has_values(gradient) and not (torch.isfinite(gradient).all() and gradient.any())):
            raise DataError(
                f"{name} gets no gradient of these training rows that it could begin with",
                where="method.rows",
                hint="Set more method.rows, leave the layer out of method.target_modules, or choose lora.",
            )
        with kept_generators():
            torch.manual_seed(SEED)
            left, _, right = torch.svd_lowrank(gradient, q=min(4 * self.rank, *gradient.shape), niter=4)
        size: float = gradient.shape[0] ** 0.25 / self.gamma**0.5
        return size * _signed(right[:, : self.rank]).t(), size * _signed(left[:, self.rank : 2 * self.rank])


def _signed(columns: Tensor) -> Tensor:
    """Each column or its opposite, so that the largest entry is positive: another library gives other signs."""
    largest = columns.abs().argmax(dim=0, keepdim=True)
    return columns * columns.gather(0, largest).sign()


def _gradients(layers: Mapping[str, nn.Module], model: nn.Module, rows: TrainingRows, count: int) -> dict[str, Tensor]:
    """Outputs × inputs of each layer that gets one, in float32; the matrices themselves stay frozen."""
    found: dict[str, Tensor] = {}

    def watching(name: str) -> Any:
        def take(gradient: Tensor, states: Tensor) -> None:
            by_output = gradient.reshape(-1, gradient.shape[-1]).float()
            found[name] = by_output.t() @ states.reshape(-1, states.shape[-1]).float() + found.get(name, 0)

        def watch(_layer: Any, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            if not output.requires_grad:
                return output
            return cast("Tensor", _watched()(output, inputs[0].detach(), take))

        return watch

    handles = [layer.register_forward_hook(watching(name)) for name, layer in layers.items()]
    try:
        for _ in rows.learn(model, count):
            pass
    finally:
        for handle in handles:
            handle.remove()
    return found


@functools.cache
def _watched() -> Any:
    """Of a layer's outputs and inputs: the outputs, whose gradient is told with the inputs on the way back.

    Autograd keeps the inputs, and not a hook: under gradient checkpointing they are there only when they are needed.
    """
    import torch

    class Watched(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, output: Tensor, states: Tensor, take: Callable[[Tensor, Tensor], None]) -> Tensor:
            ctx.save_for_backward(states)
            ctx.take = take
            return output.clone()  # what a Function gives as a view must not be changed in place

        @staticmethod
        def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
            ctx.take(gradients[0], *ctx.saved_tensors)
            return gradients[0], None, None

    return Watched.apply

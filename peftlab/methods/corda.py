"""CorDA: LoRA that begins with the part of the base's matrices that the data use most.

Yang et al. 2024, https://arxiv.org/abs/2406.05223, in its mode that previews the instructions. (The other one asks for
rows of the knowledge that is to be kept, and a recipe has none.) With C, the second moments of what a layer reads, W C
= U S Vᵀ is decomposed, and W = U S Vᵀ C⁻¹. The ``rank`` parts with the largest singular values move from W into B A
and train there; the rest of W is frozen. C is scaled to a mean diagonal of 1, so that A and B are of one size whatever
the states are.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, PositiveInt

from peftlab.core.errors import DataError
from peftlab.core.hooks import TrainingRows
from peftlab.core.method import METHODS
from peftlab.core.tensors import has_values
from peftlab.methods._layer_reading import LayerInputs
from peftlab.methods._moved_start import StartsFromRows

if TYPE_CHECKING:
    from torch import Tensor, nn

DAMPING, MOST_ERROR = 0.01, 0.05
"""Of the mean of the diagonal, at first; and how far the product with the inverse may be from 1."""


@METHODS.register("corda")
class Corda(StartsFromRows):
    """CorDA: LoRA that begins with the part of each matrix that the training rows use most."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2406.05223"
    default_learning_rate: ClassVar[float] = 3e-4

    rows: PositiveInt = Field(256, description="Training rows by whose states the part is chosen.")

    def bytes_kept(self, layer: Any) -> int:
        """The second moments of its inputs."""
        return int(4 * layer.in_features**2)

    def factors(
        self, layers: Mapping[str, Any], model: nn.Module, rows: TrainingRows
    ) -> dict[str, tuple[Tensor, Tensor]]:
        """The part of each matrix that the rows use most, as A and B.

        Raises:
            DataError: A layer reads nothing, or something that is no number.
        """
        moments: dict[str, Tensor] = {}
        with LayerInputs(layers) as inputs:
            for batch in rows.read(model, self.rows):
                for name, states in inputs.states(batch.get("attention_mask")):
                    moments[name] = states.t() @ states + moments.get(name, 0)
        own = {name: moments.get(inputs.same_as.get(name, "")) for name in layers}
        return {name: self._decomposed(layer, name, own[name]) for name, layer in layers.items()}

    def _decomposed(self, layer: Any, name: str, moments: Tensor | None) -> tuple[Tensor, Tensor]:
        import torch

        scale = None if moments is None else moments.diagonal().mean()
        if moments is None or scale is None or not _says_something(moments, scale):
            raise DataError(
                f"{name} reads nothing of these training rows that its matrix could be decomposed by",
                where="method.rows",
                hint="Set more method.rows, leave the layer out of method.target_modules, or choose lora.",
            )
        weight = layer.get_base_layer().weight.detach().float()
        with torch.no_grad(), _in_float32():
            moments, inverse = _invertible(moments / scale)
            left, strength, right = torch.linalg.svd(
                (weight.t() if layer.fan_in_fan_out else weight) @ moments, full_matrices=False
            )
        size = (strength[: self.rank] / next(iter(layer.scaling.values()))).sqrt()
        return size[:, None] * (right[: self.rank] @ inverse), left[:, : self.rank] * size


@contextlib.contextmanager
def _in_float32() -> Iterator[None]:
    """Products as exact as their type: rounded to ten bits, as a card may be told to, no inverse would do."""
    import torch

    library: Any = torch.backends  # its stubs lack some
    backends = [library.cuda.matmul, library.mkldnn.matmul]
    own = [backend.fp32_precision for backend in backends]
    for backend in backends:
        backend.fp32_precision = "ieee"
    try:
        yield
    finally:
        for backend, before in zip(backends, own, strict=True):
            backend.fp32_precision = before


def _invertible(moments: Tensor) -> tuple[Tensor, Tensor]:
    """The matrix with as much on its diagonal as its inverse needs, and the inverse, as in the paper's code."""
    import torch

    damping = DAMPING
    while True:
        damped = moments.clone()
        damped.diagonal().add_(damping * moments.diagonal().mean())
        inverse = torch.linalg.inv(damped)
        error = damped @ inverse
        error.diagonal().sub_(1)
        if not has_values(error) or error.norm() < MOST_ERROR:
            return damped, inverse
        damping *= 2


def _says_something(moments: Tensor, scale: Tensor) -> bool:
    import torch

    return not has_values(moments) or bool(torch.isfinite(moments).all() and scale > 0)

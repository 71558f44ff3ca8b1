"""CorDA: LoRA that begins with the part of the base's matrices that the data use most.

Yang et al. 2024, https://arxiv.org/abs/2406.05223, in its mode that previews the instructions. (The other one asks for
rows of the knowledge that is to be kept, and a recipe has none.) With C, the second moments of what a layer reads, W C
= U S Vᵀ is decomposed, and W = U S Vᵀ C⁻¹. The ``rank`` parts with the largest singular values move from W into B A
and train there; the rest of W is frozen. The decomposition, and what keeps C invertible, are peft's. C is scaled to a
mean diagonal of 1, so that A and B are of one size whatever the states are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field, PositiveInt

from peftlab.core.errors import DataError
from peftlab.core.hooks import TrainingRows
from peftlab.core.method import METHODS
from peftlab.methods._layer_reading import LayerInputs, grouped, low_rank_layers
from peftlab.methods._moved_start import BYTES_AT_ONCE, StartsFromRows, move_into_update

if TYPE_CHECKING:
    from torch import Tensor, nn


@METHODS.register("corda")
class Corda(StartsFromRows):
    """CorDA: LoRA that begins with the part of each matrix that the training rows use most."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2406.05223"
    default_learning_rate: ClassVar[float] = 3e-4

    rows: PositiveInt = Field(256, description="Training rows by whose states the part is chosen.")

    def take_rows(self, model: nn.Module, rows: TrainingRows) -> None:
        """Move the most used part of every matrix into its update.

        Raises:
            DataError: A layer reads nothing, or something that is no number.
        """
        layers = low_rank_layers(model)
        sizes = {name: 4 * layer.in_features**2 for name, layer in layers.items()}
        started: dict[str, tuple[Tensor, Tensor]] = {}
        for group in grouped(sizes, BYTES_AT_ONCE):
            started |= self._factors({name: layers[name] for name in group}, model, rows)
        for name, (down, up) in started.items():
            move_into_update(layers[name], down, up)
        self.note_start(model)

    def _factors(
        self, layers: Mapping[str, nn.Module], model: nn.Module, rows: TrainingRows
    ) -> dict[str, tuple[Tensor, Tensor]]:
        """A and B of some layers, all taken from the untouched base."""
        moments: dict[str, Tensor] = {}
        with LayerInputs(layers) as inputs:
            for batch in rows.read(model, self.rows):
                for name, states in inputs.states(batch.get("attention_mask")):
                    moments[name] = states.t() @ states + moments.get(name, 0)
        own = {name: moments.get(inputs.same_as.get(name, "")) for name in layers}
        return {name: self._decomposed(layer, name, own[name]) for name, layer in layers.items()}

    def _decomposed(self, layer: nn.Module, name: str, moments: Tensor | None) -> tuple[Tensor, Tensor]:
        import torch
        from peft.tuners.lora.corda import collect_eigens_for_layer

        scale = None if moments is None else moments.diagonal().mean()
        if moments is None or scale is None or not torch.isfinite(moments).all() or scale == 0:
            raise DataError(
                f"{name} reads nothing of these training rows that its matrix could be decomposed by",
                where="method.rows",
                hint="Set more method.rows, leave the layer out of method.target_modules, or choose lora.",
            )
        matrix = layer.get_base_layer()  # type: ignore[operator]
        matrix.covariance_matrix = moments / scale
        try:
            found = collect_eigens_for_layer(matrix, None)
        finally:
            del matrix.covariance_matrix
        strength = found.S_WC[: self.rank].sqrt()
        up, down = (factor[:, : self.rank].to(strength) for factor in (found.U_WC, found.V_WC))
        scaling = next(iter(layer.scaling.values())) ** 0.5  # type: ignore[operator]
        return (down * strength).t() / scaling, up * strength / scaling

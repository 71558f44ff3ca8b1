"""LoRA whose updates begin, by training rows, with something that is taken out of the base's matrices."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from peftlab.core.errors import UnsupportedError
from peftlab.core.hooks import TrainingRows
from peftlab.core.tensors import has_values
from peftlab.methods._layer_reading import grouped, low_rank_layers
from peftlab.methods.lora import Lora

if TYPE_CHECKING:
    from torch import Tensor, nn

BYTES_AT_ONCE = 2**30
"""What is kept of layers while rows are read; where it is not enough for all, the rows are read again for the next."""


class StartsFromRows(Lora):
    """The model computes as its base at first, W − (alpha / rank) B A beside the update; saved is a plain LoRA.

    That has twice the rank, and fits the unchanged base; a run that goes on from it is one of that rank.
    """

    other_names: ClassVar[Mapping[str, str]] = {}
    works_sharded: ClassVar[bool] = False
    needs_rows: ClassVar[bool] = True

    dora: Literal[False] = Field(False, description="Not with a part of the base's matrices in the update.")
    target_parameters: None = Field(None, description="Not with a part of the base's matrices in the update.")
    initialization: Literal["default"] = Field("default", description="By the training rows.")

    def check_offload(self) -> None:
        """Refuse an offloaded base: what is taken out of its matrices would be there again when they are fetched."""
        raise UnsupportedError(
            f"{self.registered_name} changes the base's matrices when it begins, and these are fetched anew",
            hint="Set model.offload to null, or choose lora.",
        )

    def take_rows(self, model: nn.Module, rows: TrainingRows) -> None:
        """Begin every update, and take what it begins with out of its matrix; all are found before one is changed.

        Raises:
            DataError: A layer takes no part in what the rows say.
            UnsupportedError: The task has no such rows.
        """
        layers = low_rank_layers(model)
        started: dict[str, tuple[Tensor, Tensor]] = {}
        sizes = {name: self.bytes_kept(layer) for name, layer in layers.items()}
        groups = list(grouped(sizes, BYTES_AT_ONCE))
        if not has_values(next(model.parameters())):  # of shapes those with the largest layer tell enough
            groups = [max(groups, key=lambda group: max(sizes[name] for name in group))]
        for group in groups:
            started |= self.factors({name: layers[name] for name in group}, model, rows)
        for name, (down, up) in started.items():
            move_into_update(layers[name], down, up)
        self.note_start(model)

    def state(self, model: nn.Module) -> Mapping[str, Tensor]:
        """The first A and B: found anew, as on another card, they might be others than those that trained."""
        return getattr(model, "initial_adapter", {})

    def restore(self, model: nn.Module, state: Mapping[str, Tensor]) -> None:
        """Begin as the run did, unless that is done."""
        import torch

        noted = getattr(model, "initial_adapter", {})  # ``apply`` has noted A and B that stand for no part of the base
        if all(name in noted and torch.equal(noted[name], value.cpu()) for name, value in state.items()):
            return
        for name, layer in low_rank_layers(model).items():
            move_into_update(layer, state[f"{name}.lora_A.weight"], state[f"{name}.lora_B.weight"])
        self.note_start(model)

    @abstractmethod
    def bytes_kept(self, layer: Any) -> int:
        """What is kept of a layer while rows are read."""

    @abstractmethod
    def factors(
        self, layers: Mapping[str, Any], model: nn.Module, rows: TrainingRows
    ) -> dict[str, tuple[Tensor, Tensor]]:
        """A and B of some layers."""

    @property
    def moves_base(self) -> str:
        """By its own name."""
        return self.registered_name


def move_into_update(layer: Any, down: Tensor, up: Tensor) -> None:
    """Begin an update with B A, and take it out of the layer's matrix, in place.

    Args:
        layer: Peft's.
        down: A, rank × inputs.
        up: B, outputs × rank.
    """
    import torch

    ((name, a),) = layer.lora_A.items()
    with torch.no_grad():
        a.weight.copy_(down)
        layer.lora_B[name].weight.copy_(up)
        moved = layer.scaling[name] * (layer.lora_B[name].weight.float() @ a.weight.float())
        weight = layer.get_base_layer().weight
        weight.copy_(weight.float() - (moved.t() if layer.fan_in_fan_out else moved))

"""EVA: LoRA that begins with directions of the data (Paischer et al. 2024, https://arxiv.org/abs/2410.07170).

Each A begins with the principal components of its layer's inputs, taken over some training rows; B begins with zero, so
the model computes as its base does at first. The paper also gives layers different ranks; here all have one, as with
its ``rho`` of 1. The components are those of peft's incremental PCA.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, PositiveInt

from peftlab.core.errors import DataError
from peftlab.core.generators import kept_generators
from peftlab.core.hooks import TrainingRows
from peftlab.core.method import METHODS, Method
from peftlab.methods._layer_reading import LayerInputs, low_rank_layers
from peftlab.methods.lora import Lora

if TYPE_CHECKING:
    from torch import Tensor, nn

SEED = 0
"""Of the random projections of the decomposition."""


@METHODS.register("eva")
class Eva(Lora):
    """EVA: LoRA whose first matrices begin with the directions in which the inputs of their layers vary most."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2410.07170"
    other_names: ClassVar[Mapping[str, str]] = {}
    works_sharded: ClassVar[bool] = False
    default_learning_rate: ClassVar[float] = 1e-3
    needs_rows: ClassVar[bool] = True

    rows: PositiveInt = Field(256, description="Training rows whose states the directions are taken from.")
    target_parameters: None = Field(None, description="Not with EVA.")
    initialization: Literal["default"] = Field("default", description="A by the training rows, B zero.")

    def after(self, earlier: Method) -> Method:
        """Training goes on as plain LoRA: the directions are those of the earlier run."""
        super().after(earlier)
        return self.plain()

    def take_rows(self, model: nn.Module, rows: TrainingRows) -> None:
        """Put the components into every A.

        Raises:
            DataError: A layer reads fewer states than the rank.
        """
        import torch

        layers, components = low_rank_layers(model), _Components(self.rank)
        with LayerInputs(layers) as inputs:
            for batch in rows.read(model, self.rows):
                for name, states in inputs.states(batch.get("attention_mask")):
                    components.fit(name, states)
        with torch.no_grad():
            for name, other in inputs.same_as.items():
                (down,) = layers[name].lora_A.values()
                down.weight.copy_(components.of(other))


class _Components:
    """Principal components of what layers read.

    Args:
        rank: How many of each.
    """

    def __init__(self, rank: int) -> None:
        self._rank = rank
        self._waiting: dict[str, list[Tensor]] = {}
        self._found: dict[str, Any] = {}

    def fit(self, name: str, states: Tensor) -> None:
        """Learn from what a layer reads of a batch, tokens × inputs."""
        waiting = self._waiting.setdefault(name, [])
        waiting.append(states)
        if sum(map(len, waiting)) >= 2 * self._rank:
            self._take_up(name)

    def of(self, name: str) -> Tensor:
        """Rank × inputs, the direction with the largest variance first.

        Raises:
            DataError: The layer has read fewer states than the rank.
        """
        count = sum(map(len, self._waiting[name]))
        if count >= self._rank:
            self._take_up(name)
        elif name not in self._found:
            raise DataError(
                f"{name} reads {count} states of these training rows, and {self._rank} directions are wanted",
                where="method.rank",
                hint="Set a smaller rank, more method.rows, or choose lora.",
            )
        components: Tensor = self._found[name].components_
        return components

    def _take_up(self, name: str) -> None:
        import torch
        from peft.utils.incremental_pca import IncrementalPCA

        states = torch.cat(self._waiting[name])
        self._waiting[name] = []
        if name not in self._found:
            is_low = 2 * self._rank <= min(states.shape)
            self._found[name] = IncrementalPCA(self._rank, lowrank=is_low)
        with kept_generators():
            torch.manual_seed(SEED)
            self._found[name].partial_fit(states)

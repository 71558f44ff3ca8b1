"""EVA: LoRA that begins with directions of the data (Paischer et al. 2024, https://arxiv.org/abs/2410.07170).

Each A begins with the principal components of its layer's inputs, taken over some training rows; B begins with zero, so
the model computes as its base does at first. The paper also gives layers different ranks; here all have one, as with
its ``rho`` of 1. The components are those of peft's incremental PCA.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, PositiveInt

from peftlab.core.errors import DataError
from peftlab.core.hooks import TrainingRows
from peftlab.core.method import METHODS, Method
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
    initialization: Literal["default"] = Field("default", description="A by the training rows, B zero.")

    def after(self, earlier: Method) -> Method:
        """Training goes on as plain LoRA: the directions are those of the earlier run."""
        super().after(earlier)
        return Lora.model_validate({key: getattr(self, key) for key in Lora.model_fields})

    def take_rows(self, model: nn.Module, rows: TrainingRows) -> None:
        """Put the components into every A.

        Raises:
            DataError: A layer reads fewer states than the rank.
        """
        import torch

        found = _Components(self.rank)
        layers: dict[str, Any] = {name: part for name, part in model.named_modules() if hasattr(part, "lora_A")}
        handles = [layer.register_forward_pre_hook(found.noting(name)) for name, layer in layers.items()]
        try:
            for batch in rows.read(model, self.rows):
                found.fit(batch.get("attention_mask"))
        finally:
            for handle in handles:
                handle.remove()
        with torch.no_grad():
            for name, components in found.components().items():
                (down,) = layers[name].lora_A.values()
                down.weight.copy_(components)


class _Components:
    """Principal components of what layers read.

    Args:
        rank: How many of each.
    """

    def __init__(self, rank: int) -> None:
        self._rank = rank
        self._same_as: dict[str, str] = {}
        self._read: dict[str, Tensor] = {}
        self._waiting: dict[str, list[Tensor]] = {}
        self._found: dict[str, Any] = {}

    def noting(self, name: str) -> Callable[[Any, Sequence[Tensor]], None]:
        """A hook that notes what a layer reads; layers that read one tensor, such as q, k and v, are one."""

        def note(_layer: Any, inputs: Sequence[Tensor]) -> None:
            states = inputs[0]
            if name not in self._same_as:
                self._same_as[name] = next((other for other, read in self._read.items() if read is states), name)
            if self._same_as[name] == name:
                self._read[name] = states

        return note

    def fit(self, mask: Tensor | None) -> None:
        """Learn from a batch; padding is left out where the batch's mask has the shape of the states."""
        for name, states in self._read.items():
            kept = states[mask.bool()] if mask is not None and mask.shape == states.shape[:-1] else states
            waiting = self._waiting.setdefault(name, [])
            waiting.append(kept.reshape(-1, states.shape[-1]).float())
            if sum(map(len, waiting)) >= 2 * self._rank:
                self._take_up(name)
        self._read.clear()

    def components(self) -> dict[str, Tensor]:
        """Rank × inputs of each layer, the direction with the largest variance first.

        Raises:
            DataError: A layer has read fewer states than the rank.
        """
        for name, waiting in self._waiting.items():
            count = sum(map(len, waiting))
            if count >= self._rank:
                self._take_up(name)
            elif name not in self._found:
                raise DataError(
                    f"{name} reads {count} states of these training rows, and {self._rank} directions are wanted",
                    where="method.rank",
                    hint="Set a smaller rank, more method.rows, or choose lora.",
                )
        return {name: self._found[other].components_ for name, other in self._same_as.items()}

    def _take_up(self, name: str) -> None:
        import torch
        from peft.utils.incremental_pca import IncrementalPCA

        states = torch.cat(self._waiting[name])
        self._waiting[name] = []
        if name not in self._found:
            is_low = 2 * self._rank <= min(states.shape)
            self._found[name] = IncrementalPCA(self._rank, lowrank=is_low, lowrank_seed=SEED if is_low else None)
        self._found[name].partial_fit(states)

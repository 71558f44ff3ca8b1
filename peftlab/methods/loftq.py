"""LoftQ: LoRA that begins with what quantisation has lost (Li et al. 2023, https://arxiv.org/abs/2310.08659).

Of each matrix W with its quantised Q, the update begins with the best ``rank`` parts of W − Q: so the model is nearer
to the one in full from the first step on. This is the paper's algorithm with one turn (T = 1), in which Q is that of
bitsandbytes and stays as it is. With more turns Q would be another one, which no plain base has.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from peftlab.core.errors import UnsupportedError
from peftlab.core.generators import kept_generators
from peftlab.core.method import METHODS, Method
from peftlab.methods._layer_reading import low_rank_layers
from peftlab.methods.lora import Lora

if TYPE_CHECKING:
    from torch import Tensor, nn

SEED = 0
"""Of the random projections of the decomposition."""


@METHODS.register("loftq")
class LoftQ(Lora):
    """LoftQ: LoRA on a base in 4 bits that begins with what quantisation has taken from each matrix."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2310.08659"
    other_names: ClassVar[Mapping[str, str]] = {}
    default_learning_rate: ClassVar[float] = 1e-3
    works_sharded: ClassVar[bool] = False
    starts_as_base: ClassVar[bool] = False
    needs_original: ClassVar[bool] = True

    dora: Literal[False] = Field(False, description="Not with LoftQ.")
    target_parameters: None = Field(None, description="Not with LoftQ.")
    initialization: Literal["default"] = Field("default", description="By the difference to the base in full.")

    def check_quantization(self, quantization: str) -> None:
        """Refuse 8 bits, in which next to nothing is lost."""
        if quantization == "int8":
            raise UnsupportedError(
                "loftq begins with what 4 bits lose, and int8 loses next to nothing",
                where="method.type",
                hint="Set model.quantization to nf4 or fp4, or choose lora.",
            )

    def after(self, earlier: Method) -> Method:
        """Training goes on as plain LoRA: the start is in the earlier run's update."""
        super().after(earlier)
        return self.plain()

    def take_original(self, model: nn.Module, original: nn.Module) -> None:
        """Begin each update on a quantised matrix with its difference to the original."""
        import torch

        with torch.no_grad():
            for name, layer in low_rank_layers(model).items():
                matrix = layer.get_base_layer()
                if getattr(matrix.weight, "quant_state", None) is None:
                    continue  # a small or a named matrix that stays in full: nothing was lost
                full = original.get_submodule(name.removeprefix("base_model.model."))
                lost = _outputs_by_inputs(full).to(matrix.weight.device, torch.float32) - _dequantized(matrix.weight)
                _begin(layer, lost)


def _begin(layer: Any, lost: Tensor) -> None:
    import torch

    ((name, down),) = layer.lora_A.items()
    rank = down.weight.shape[0]
    with kept_generators():
        torch.manual_seed(SEED)
        left, strength, right = torch.svd_lowrank(lost, q=min(4 * rank, *lost.shape), niter=4)
    size = (strength[:rank] / layer.scaling[name]).sqrt()
    down.weight[: len(size)].copy_((right[:, :rank] * size).t())
    layer.lora_B[name].weight[:, : len(size)].copy_(left[:, :rank] * size)


def _outputs_by_inputs(layer: nn.Module) -> Tensor:
    """GPT-2's own layers hold the transposed matrix; the quantised ones do not."""
    weight: Any = layer.weight
    return weight.t() if type(layer).__name__ == "Conv1D" else weight  # type: ignore[no-any-return]


def _dequantized(weight: Any) -> Tensor:
    from bitsandbytes.functional import dequantize_4bit

    found: Tensor = dequantize_4bit(weight.data, weight.quant_state)
    return found.float()

"""LoRA-FA: LoRA whose A stays as it was drawn (Zhang et al. 2023, https://arxiv.org/abs/2308.03303).

The gradient of B needs what A makes of a layer's inputs, which is rank numbers a token. So the inputs themselves need
not be kept, and half of the trained weights are gone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from peftlab.core.method import METHODS, MethodContext
from peftlab.methods.lora import Lora


@METHODS.register("lora_fa")
class LoraFrozenA(Lora):
    """LoRA-FA: only the second matrix of each low-rank update trains, so layers' inputs are not kept."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2308.03303"
    other_names: ClassVar[Mapping[str, str]] = {}
    default_learning_rate: ClassVar[float] = 5e-3
    works_sharded: ClassVar[bool] = False

    dora: Literal[False] = Field(False, description="Not with LoRA-FA.")
    initialization: Literal["default", "gaussian"] = Field(
        "default", description="default: A by Kaiming, B zero; gaussian: A normal. A stays so."
    )

    def apply(self, model: Any, context: MethodContext) -> Any:
        """A LoRA with every A frozen."""
        wrapped = super().apply(model, context)
        for name, parameter in wrapped.named_parameters():
            if ".lora_A." in name or ".lora_embedding_A." in name:
                parameter.requires_grad_(False)
        return wrapped

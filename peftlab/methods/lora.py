"""LoRA: low-rank updates beside frozen matrices (Hu et al. 2021, https://arxiv.org/abs/2106.09685).

With its kin: rsLoRA's scaling (https://arxiv.org/abs/2312.03732), DoRA (https://arxiv.org/abs/2402.09353), and the
initialisations PiSSA (https://arxiv.org/abs/2404.02948) and OLoRA (https://arxiv.org/abs/2406.01775).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, PositiveInt

from peftlab.interfaces import METHODS, Method, MethodContext, ModelFacts, TargetModules
from peftlab.methods._targets import are_transposed, check_targets, guard_targets, resolve_targets
from peftlab.record import Guard

if TYPE_CHECKING:
    from torch import nn


@METHODS.register("lora")
class Lora(Method):
    """LoRA: low-rank updates beside frozen matrices; also rsLoRA, DoRA, PiSSA and OLoRA."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2106.09685"
    default_learning_rate: ClassVar[float] = 1e-3
    mergeable: ClassVar[bool] = True

    rank: PositiveInt = Field(8, description="Rank of the update of every adapted matrix.")
    alpha: PositiveInt = Field(16, description="Numerator of the scaling: alpha / rank.")
    dropout: float = Field(0.0, ge=0, lt=1, description="Dropout on the input of the update.")
    target_modules: TargetModules = "all-linear"
    rslora: bool = Field(False, description="Scale by alpha / √rank instead.")
    dora: bool = Field(False, description="Train the magnitude of each column apart from its direction.")
    initialization: Literal["default", "gaussian", "pissa", "olora"] = Field(
        "default",
        description="default: A by Kaiming, B zero; gaussian: A normal; pissa, olora: from the matrix, by SVD or QR.",
    )

    def check(self, facts: ModelFacts) -> None:
        """Refuse target modules that match nothing."""
        check_targets(facts, self.target_modules)

    def apply(self, model: Any, context: MethodContext) -> Any:
        """Put an update beside each target: h = W x + (alpha / rank) B A x."""
        import peft

        targets = resolve_targets(model, self.target_modules, context)
        config = peft.LoraConfig(
            task_type=context.peft_task_type,
            r=self.rank,
            lora_alpha=self.alpha,
            lora_dropout=self.dropout,
            target_modules=targets,
            fan_in_fan_out=are_transposed(model, targets),
            modules_to_save=list(context.head_modules),
            use_rslora=self.rslora,
            use_dora=self.dora,
            init_lora_weights=True if self.initialization == "default" else self.initialization,
        )
        wrapped = peft.get_peft_model(model, config)
        if self._changes_base:
            wrapped.initial_adapter = {
                name: tensor.detach().clone() for name, tensor in peft.get_peft_model_state_dict(wrapped).items()
            }
        return wrapped

    def guards(self, model: nn.Module, context: MethodContext) -> dict[str, Guard]:
        """Every target got an update."""
        return {"target_modules_matched": guard_targets(model, self.target_modules)}

    def peft_save_options(self, model: Any, scratch: Path) -> dict[str, Any]:
        """PiSSA and OLoRA have moved a part of the base into the adapter.

        Saved as it is, the adapter would only fit a base that was changed in the same way. With the initial adapter at
        hand, peft writes the difference as a plain LoRA of twice the rank, which fits the unchanged base.
        """
        if not self._changes_base:
            return {}
        from copy import copy

        from safetensors.torch import save_file

        folder = scratch / "initial"
        config = copy(model.peft_config["default"])
        config.init_lora_weights = True
        config.save_pretrained(folder)
        save_file(
            {name: tensor.contiguous() for name, tensor in model.initial_adapter.items()},
            folder / "adapter_model.safetensors",
        )
        return {"path_initial_model_for_weight_conversion": str(folder)}

    @property
    def _changes_base(self) -> bool:
        return self.initialization in {"pissa", "olora"}

"""P-tuning: a prompt that a small network computes while training (Liu et al. 2021, https://arxiv.org/abs/2103.10385)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, PositiveInt

from peftlab.core.method import METHODS, MethodContext
from peftlab.methods._prompts import PromptMethod, embedding_size, wrap


@METHODS.register("p_tuning")
class PTuning(PromptMethod):
    """P-tuning: a prompt that a small network computes while training."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2103.10385"
    other_names: ClassVar[Mapping[str, str]] = {
        "p_tuning_v1": "Write `p_tuning`.",
    }
    default_learning_rate: ClassVar[float] = 5e-3
    search_space: ClassVar[Mapping[str, tuple[Any, ...]]] = {"method.encoder": ("mlp", "lstm")}

    encoder: Literal["mlp", "lstm"] = Field("mlp", description="The network that computes the prompt.")
    encoder_hidden_size: PositiveInt = Field(128, description="Hidden size of that network.")

    def apply(self, model: Any, context: MethodContext) -> Any:
        """Put a computed prompt before every text."""
        import peft

        config = peft.PromptEncoderConfig(
            task_type=context.peft_task_type,
            num_virtual_tokens=self.num_virtual_tokens,
            num_transformer_submodules=1,  # of an encoder–decoder the encoder reads them, and nothing else
            token_dim=embedding_size(model),
            encoder_reparameterization_type=self.encoder.upper(),
            encoder_hidden_size=self.encoder_hidden_size,
        )
        return wrap(model, config, context)

"""Prefix tuning: trained keys and values before every layer's own (Li and Liang 2021, https://arxiv.org/abs/2101.00190)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field, PositiveInt

from peftlab.core.method import METHODS, MethodContext
from peftlab.core.model_facts import ModelFacts
from peftlab.methods._prompts import PromptMethod, check_past_key_values, wrap


@METHODS.register("prefix_tuning")
class PrefixTuning(PromptMethod):
    """Prefix tuning: trained keys and values stand before every layer's own."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2101.00190"
    other_names: ClassVar[Mapping[str, str]] = {
        "prefix": "Write `prefix_tuning`.",
    }
    default_learning_rate: ClassVar[float] = 4e-2
    supports_gradient_checkpointing: ClassVar[bool] = False

    projection: bool = Field(False, description="Compute the prefix with a two-layer network, as in the paper.")
    projection_size: PositiveInt = Field(128, description="Hidden size of that network.")

    def check(self, facts: ModelFacts) -> None:
        """Refuse models whose attention takes no prefix."""
        super().check(facts)
        check_past_key_values(facts)

    def apply(self, model: Any, context: MethodContext) -> Any:
        """Put a prefix before the keys and values of every layer; of an encoder–decoder, of its decoder's."""
        import peft

        config = peft.PrefixTuningConfig(
            task_type=context.peft_task_type,
            num_virtual_tokens=self.num_virtual_tokens,
            **_decoder_sizes(model, context),
            prefix_projection=self.projection,
            encoder_hidden_size=self.projection_size,
        )
        return wrap(model, config, context)


def _decoder_sizes(model: Any, context: MethodContext) -> dict[str, int]:
    """The sizes of an encoder–decoder's decoder, which peft takes for those of the encoder; empty for other models.

    T5's heads may be larger or smaller together than its hidden states.
    """
    if context.family != "encoder_decoder":
        return {}
    config = model.config

    def first(*names: str) -> int:
        return next(int(value) for name in names if (value := getattr(config, name, None)) is not None)

    heads = first("decoder_attention_heads", "num_attention_heads")
    size = config.d_kv * heads if hasattr(config, "d_kv") else first("d_model", "hidden_size")
    layers = first("decoder_layers", "num_decoder_layers", "num_hidden_layers")
    return {"num_layers": layers, "num_attention_heads": heads, "token_dim": int(size)}

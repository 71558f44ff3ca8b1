"""Prefix tuning: trained keys and values before every layer's own (Li and Liang 2021, https://arxiv.org/abs/2101.00190)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, PositiveInt

from peftlab.core.method import METHODS, Method, MethodContext
from peftlab.core.model_facts import ModelFacts
from peftlab.methods._prompts import check_head, check_past_key_values, is_virtual_token, refuse_added_tokens, wrap

if TYPE_CHECKING:
    from torch import Tensor


@METHODS.register("prefix_tuning")
class PrefixTuning(Method):
    """Prefix tuning: trained keys and values stand before every layer's own."""

    works_sharded: ClassVar[bool] = True
    paper: ClassVar[str] = "https://arxiv.org/abs/2101.00190"
    other_names: ClassVar[Mapping[str, str]] = {
        "prefix": "Write `prefix_tuning`.",
    }
    default_learning_rate: ClassVar[float] = 4e-2
    supports_gradient_checkpointing: ClassVar[bool] = False

    num_virtual_tokens: PositiveInt = Field(16, description="Length of the prefix.")
    projection: bool = Field(False, description="Compute the prefix with a two-layer network, as in the paper.")
    projection_size: PositiveInt = Field(128, description="Hidden size of that network.")

    def extra_positions(self) -> int:
        """Virtual tokens stand before the text's own."""
        return self.num_virtual_tokens

    def decays(self, name: str, parameter: Tensor) -> bool:
        """Not the virtual tokens."""
        return super().decays(name, parameter) and not is_virtual_token(name)

    def check(self, facts: ModelFacts) -> None:
        """Refuse models whose attention takes no prefix."""
        check_head(facts)
        check_past_key_values(facts)

    def check_added_tokens(self) -> None:
        """Refuse them: peft would not save their embeddings."""
        refuse_added_tokens()

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

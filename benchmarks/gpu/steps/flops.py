"""What a step of LoRA must do, counted from the model's config: the numerator of MFU."""

from __future__ import annotations

from typing import Any


def training_flops_per_token(config: Any, lengths: list[int]) -> float:
    """Floating-point operations for each token that is not padding, forward and backward, over a frozen base.

    A product with a frozen matrix is done twice: forward, and for the gradient of its input. Attention's two products
    have no weights and are done three times. What a causal model computes above the diagonal does not count, nor do
    LoRA's own matrices (under 1 %) and activations that are computed again.

    Args:
        config: Of a BERT or a Llama.
        lengths: Tokens of the texts.
    """
    hidden, layers = config.hidden_size, config.num_hidden_layers
    heads = config.num_attention_heads
    is_causal = config.model_type == "llama"
    width = heads * (getattr(config, "head_dim", None) or hidden // heads)
    if is_causal:
        shared = width * config.num_key_value_heads // heads
        layer = 2 * hidden * width + 2 * hidden * shared + 3 * hidden * config.intermediate_size
        weights = layers * layer + hidden * config.vocab_size
    else:
        weights = layers * (4 * hidden * width + 2 * hidden * config.intermediate_size)
    seen = sum(length**2 for length in lengths) / sum(lengths)  # by a token, on average
    attention = layers * 2 * 2 * width * (seen / 2 if is_causal else seen)
    return 2 * (2 * weights) + 3 * attention

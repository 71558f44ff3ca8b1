"""Classification heads of BERT's kin read the first token alone: the last layer need not compute the others.

Only attention's keys and values of the last layer need every token. Its attention output, its feed-forward block and
its norms are computed for the first token, which saves three quarters of that layer's matrix products, forward and
backward, and the memory of its activations. The logits are the same.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

MODEL_TYPES = frozenset({"bert", "camembert", "electra", "roberta", "xlm-roberta"})
"""Their ``…ForSequenceClassification`` pools position 0, and their layers begin with ``attention.output``."""


def compute_first_token_only(model: Any) -> bool:
    """Let the last layer of a sequence classifier compute the first token only.

    Args:
        model: A transformers model; it is changed in place by a hook, which no checkpoint holds.

    Returns:
        Whether this is a model that it can be done with.
    """
    is_classifier = type(model).__name__.endswith("ForSequenceClassification")
    if not is_classifier or model.config.model_type not in MODEL_TYPES:
        return False
    last_layer: nn.Module = model.base_model.encoder.layer[-1]
    last_layer.get_submodule("attention.output").register_forward_pre_hook(_keep_first_token)
    return True


def _keep_first_token(_module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Cut the attention's result and the residual (batch × length × hidden) to the first token."""
    return tuple(states[:, :1] for states in inputs)

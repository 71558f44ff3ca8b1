"""Classification heads of BERT's kin read the first token alone: the last layer need not compute the others.

Only the keys and values of the last layer need every token. Its query, its attention, its feed-forward block and its
norms are computed for the first token, which saves five sixths of that layer's matrix products, forward and backward,
and the memory of its activations. The logits are the same. Whoever asks for the states of all layers gets all of them.
"""

from __future__ import annotations

import sys
import threading
from typing import Any

from torch import Tensor, nn

from peftlab.acceleration.unpadding import first_tokens

MODEL_TYPES = frozenset({"bert", "camembert", "electra", "roberta", "xlm-roberta"})
"""Their ``…ForSequenceClassification`` pools position 0, and their layers begin with ``attention.self``."""

IMPLEMENTATIONS = frozenset({"eager", "sdpa"})
"""Of attention: those whose mask says for each query what it may see."""


def compute_first_token_only(model: Any) -> bool:
    """Let the last layer of a sequence classifier compute the first token only.

    Args:
        model: A transformers model; it is changed in place by hooks and a method, which no checkpoint holds.

    Returns:
        Whether this is a model that it can be done with.
    """
    is_classifier = type(model).__name__.endswith("ForSequenceClassification")
    if not is_classifier or model.config.model_type not in MODEL_TYPES:
        return False
    attention: nn.Module = model.base_model.encoder.layer[-1].attention
    attend = FirstTokenAttention(attention.get_submodule("self"))
    attention.get_submodule("self").forward = attend
    attention.get_submodule("output").register_forward_pre_hook(_keep_first_token)
    model.register_forward_pre_hook(_begin, with_kwargs=True)
    model.register_forward_hook(_end, always_call=True)
    return True


def computes_first_token_only(module: nn.Module) -> bool:
    """Whether a layer's attention is one that was made to."""
    return isinstance(module.__dict__.get("forward"), FirstTokenAttention)


class _Asked(threading.local):
    """Of the forward pass that this thread is in.

    Where the first tokens are, of the last layer, if all texts stand in one row; and whether the states of all tokens
    are wanted.
    """

    places: Tensor | None = None
    everything: bool = False


_asked = _Asked()


def _begin(model: Any, _arguments: Any, keywords: dict[str, Any]) -> None:
    asked = keywords.get("output_hidden_states")
    _asked.everything = bool(model.config.output_hidden_states if asked is None else asked)


def _end(_model: nn.Module, _arguments: Any, _outputs: Any) -> None:
    _asked.everything = False


def _keep_first_token(_module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Cut the attention's result and the residual (batch × length × hidden) to the first token of each text."""
    if _asked.everything:
        return inputs
    if _asked.places is None:
        return tuple(states[:, :1] for states in inputs)
    attended, residual = inputs  # the former is cut already
    return attended, residual.index_select(1, _asked.places)


class FirstTokenAttention:
    """The forward method of a self-attention whose first token alone asks.

    Args:
        module: transformers' ``BertSelfAttention``, or one of its kin, which are all written alike.
    """

    def __init__(self, module: Any) -> None:
        self._module = module
        self._whole = module.forward

    def __call__(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        past_key_values: Any = None,
        **options: Any,
    ) -> tuple[Tensor, Tensor | None]:
        """Attend from the first token to all.

        Args:
            hidden_states: Batch × length × hidden.
            attention_mask: None, or batch × 1 × queries × keys.
            past_key_values: Where there are any, such as a prefix, every token asks.
            **options: For the attention.

        Returns:
            Batch × 1 × hidden, 1 × texts × hidden where all stand in one row, or batch × length × hidden where every
            token asks; and the weights, if any.
        """
        from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

        module, implementation = self._module, self._module.config._attn_implementation
        _asked.places = None
        if _asked.everything or past_key_values is not None or implementation not in IMPLEMENTATIONS:
            whole: tuple[Tensor, Tensor | None] = self._whole(
                hidden_states, attention_mask=attention_mask, past_key_values=past_key_values, **options
            )
            return whole
        eager = sys.modules[type(module).__module__].eager_attention_forward
        if options.get("cu_seq_lens_q") is None:
            asking = hidden_states[:, :1]
        else:
            _asked.places, options = first_tokens(options)
            asking = hidden_states.index_select(1, _asked.places)
        attended, weights = ALL_ATTENTION_FUNCTIONS.get_interface(implementation, eager)(
            module,
            self._heads(module.query(asking)),
            self._heads(module.key(hidden_states)),
            self._heads(module.value(hidden_states)),
            attention_mask if attention_mask is None else attention_mask[:, :, :1],
            dropout=module.dropout.p if module.training else 0.0,
            scaling=module.scaling,
            **options,
        )
        return attended.flatten(2), weights

    def _heads(self, states: Tensor) -> Tensor:
        """Batch × length × hidden to batch × heads × length × size."""
        return states.reshape(*states.shape[:-1], -1, self._module.attention_head_size).transpose(1, 2)

"""Bottleneck adapters: a small network with a skip connection behind a layer of the frozen base.

Written once over module names: an adapter is a child of the projection that ends a sub-layer, and a hook runs it on
that projection's output. The base's own modules and parameter names stay as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from peftlab.core.errors import UnsupportedError
from peftlab.core.model_facts import ModelFacts

if TYPE_CHECKING:
    from torch import Tensor, nn

Activation = Literal["gelu", "relu", "silu", "tanh"]
ModuleNames = Literal["auto"] | list[str]

ATTENTION_OUTPUTS = (
    "attention.output.dense",  # BERT, RoBERTa, ELECTRA, DeBERTa
    "attention.out_lin",  # DistilBERT
    "attn.c_proj",  # GPT-2
    "self_attn.o_proj",  # Llama, Mistral, Qwen, Gemma
    "self_attn.out_proj",  # OPT, BART
    "encoder_attn.out_proj",  # BART: what its decoder reads of the encoder
    "SelfAttention.o",  # T5
    "EncDecAttention.o",  # T5: what its decoder reads of the encoder
    "self_attn.dense",  # Phi
    "attention.dense",  # GPT-NeoX, ALBERT
    "self_attention.dense",  # BLOOM, Falcon
    "attn.Wo",  # ModernBERT
    "attn.out_proj",  # GPT-J, CodeGen
    "attn.attention.out_proj",  # GPT-Neo
    "attention.o_proj",  # ViT
    "attention.attn.o",  # MPNet
)
"""Ends of the names of the projections that end attention blocks."""

FEEDFORWARD_OUTPUTS = (
    "output.dense",  # BERT and its kin; attention's own outputs are taken out first
    "ffn.lin2",  # DistilBERT
    "mlp.c_proj",  # GPT-2, GPT-Neo
    "mlp.down_proj",  # Llama, Mistral, Qwen, Gemma
    "fc2",  # OPT, Phi, BART, ViT
    "DenseReluDense.wo",  # T5
    "mlp.dense_4h_to_h",  # GPT-NeoX, BLOOM, Falcon
    "ffn_output",  # ALBERT
    "mlp.Wo",  # ModernBERT
    "mlp.fc_out",  # GPT-J, CodeGen
)
"""Ends of the names of the projections that end feed-forward blocks."""


def place(
    known: Sequence[str], names: ModuleNames, ends: Sequence[str], *, kind: str, key: str, model: str
) -> list[str]:
    """Choose the layers that get an adapter.

    Args:
        known: Full names of the model's linear layers.
        names: ``auto``, or ends of names that must all match.
        ends: What ``auto`` looks for.
        kind: Of block, for the message: ``attention``.
        key: Of the recipe, for the message.
        model: For the message.

    Raises:
        UnsupportedError: Nothing matches.
    """
    if names != "auto":
        chosen = [name for name in known if any(_ends_with(name, end) for end in names)]
        unmatched = [end for end in names if not any(_ends_with(name, end) for name in known)]
        if unmatched:
            raise UnsupportedError(f"`{unmatched[0]}` matches no linear layer of {model}", where=f"method.{key}")
        return chosen
    chosen = [name for name in known if any(_ends_with(name, end) for end in ends)]
    if ends is FEEDFORWARD_OUTPUTS:
        chosen = [name for name in chosen if not any(_ends_with(name, end) for end in ATTENTION_OUTPUTS)]
    if not chosen:
        raise UnsupportedError(
            f"peftlab does not know which layer ends the {kind} block in {model}", hint=f"Name it in method.{key}."
        )
    return chosen


def check_placement(facts: ModelFacts, names: ModuleNames, ends: Sequence[str], *, kind: str, key: str) -> None:
    """The same choice on what is known without the weights.

    Raises:
        UnsupportedError: Nothing matches.
    """
    known = facts.linear_modules()
    if known:
        place(known, names, ends, kind=kind, key=key, model=facts.path)


def insert_adapters(model: Any, layers: Sequence[str], *, reduction_factor: int, activation: Activation) -> None:
    """Put a bottleneck behind each of the layers."""
    for name in layers:
        layer = model.get_submodule(name)
        size = layer.nf if hasattr(layer, "nf") else layer.out_features  # GPT-2's Conv1D has another word for it
        device = next(layer.parameters()).device
        layer.add_module("adapter", build_bottleneck(size, reduction_factor, activation).to(device))
        layer.register_forward_hook(_run_adapter)


def build_bottleneck(size: int, reduction_factor: int, activation: Activation) -> nn.Sequential:
    """H ↦ up(act(down(h))), to be added to h; near zero at the start.

    Weights are drawn from a normal distribution with standard deviation 0.01, truncated at two of them, and biases are
    zero, as in Houlsby et al. 2019, section 3.6: the block begins as nearly the identity.

    Args:
        size: Of h (last dimension).
        reduction_factor: size ÷ reduction_factor is the bottleneck's width, 1 at least.
        activation: Between the two layers.
    """
    from torch import nn

    activations = {"gelu": nn.GELU, "relu": nn.ReLU, "silu": nn.SiLU, "tanh": nn.Tanh}
    width = max(1, size // reduction_factor)
    down, up = nn.Linear(size, width), nn.Linear(width, size)
    for layer in (down, up):
        nn.init.trunc_normal_(layer.weight, std=1e-2, a=-2e-2, b=2e-2)
        nn.init.zeros_(layer.bias)
    return nn.Sequential(down, activations[activation](), up)


def _run_adapter(layer: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
    adapter: Any = layer.adapter
    result: Tensor = output + adapter(output)
    return result


def _ends_with(name: str, end: str) -> bool:
    return name == end or name.endswith(f".{end}")

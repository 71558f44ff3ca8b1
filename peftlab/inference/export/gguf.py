"""GGUF files, which llama.cpp, Ollama and LM Studio run: weights by the package gguf, and what they are by a table.

Names, orders and settings are those of llama.cpp's own converter (its folder ``conversion``). The file is read again by
transformers, whose reader is another's work, before an export counts.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from peftlab.core.errors import UnsupportedError
from peftlab.inference.export.gguf_tokenizer import OTHER_WAY, check_tokenizer, write_tokenizer

if TYPE_CHECKING:
    from gguf import GGMLQuantizationType, GGUFWriter

GREATEST_HALF = 65_504.0
"""The greatest number of float16."""
ROPE_TYPES = ("default", "llama3")
ACTIVATIONS = ("gelu_new", "silu")
"""GPT-2's, and that of the others."""


@dataclass(frozen=True)
class Architecture:
    """How llama.cpp calls and orders the weights of a class of transformers.

    Args:
        name: llama.cpp's.
        pairs_rotated: Whether the halves of a head that are rotated together stand beside each other in the file.
        transposed: The ends of the names of matrices that transformers keeps turned (GPT-2's).
    """

    name: str
    pairs_rotated: bool = False
    transposed: tuple[str, ...] = ()


ARCHITECTURES = {
    "GPT2LMHeadModel": Architecture("gpt2", transposed=("c_attn.weight", "c_proj.weight", "c_fc.weight")),
    "LlamaForCausalLM": Architecture("llama", pairs_rotated=True),
    "MistralForCausalLM": Architecture("llama", pairs_rotated=True),
    "Qwen2ForCausalLM": Architecture("qwen2"),
    "Qwen3ForCausalLM": Architecture("qwen3"),
}


def check_gguf(architecture: str, config: Any, tokenizer: Any) -> None:
    """Refuse what no right file can be written of.

    Args:
        architecture: The class of the model.
        config: The model's.
        tokenizer: The run's.

    Raises:
        UnsupportedError: With the reason.
    """
    why = _what_is_unknown(architecture, config)
    if why:
        raise UnsupportedError(
            f"no GGUF files are written {why}",
            hint=OTHER_WAY,
        )
    check_tokenizer(tokenizer)


def _what_is_unknown(architecture: str, config: Any) -> str | None:
    """What no file is written of, so that it follows "no GGUF files are written"; None: all is known."""
    rope_type = (getattr(config, "rope_parameters", None) or {}).get("rope_type", "default")
    window = getattr(config, "sliding_window", None)
    activation = getattr(config, "activation_function", None) or getattr(config, "hidden_act", None)
    if architecture not in ARCHITECTURES:
        return f"of {architecture}, but of {', '.join(ARCHITECTURES)}"
    if rope_type not in ROPE_TYPES:
        return f"with positions of the type {rope_type}"
    if window is not None and window < config.max_position_embeddings and getattr(config, "use_sliding_window", True):
        return "of models that look back over a window alone"
    if getattr(config, "attention_bias", False) or getattr(config, "mlp_bias", False):
        return "with biases, which llama.cpp's model of this name does not have"
    if activation not in ACTIVATIONS:
        return f"with the activation {activation}, which llama.cpp's model of this name does not have"
    if getattr(config, "scale_attn_by_inverse_layer_idx", False) or not getattr(config, "scale_attn_weights", True):
        return "with attention that is scaled in another way"
    return None


def write_gguf(
    model: Any, tokenizer: Any, path: Path, *, name: str, in_eight_bits: bool, ends: Sequence[int] = ()
) -> None:
    """Write a model and its tokenizer.

    Matrices are in 16 bits, bfloat16 where the model is, or in blocks of 8 bits (``Q8_0``); vectors are in float32.

    Args:
        model: A causal language model of :data:`ARCHITECTURES`, merged.
        tokenizer: Of the run.
        path: The file.
        name: What the model is called in the file.
        in_eight_bits: Whether matrices are rounded to 8 bits.
        ends: The tokens of which each ends an answer.

    Raises:
        UnsupportedError: As :func:`check_gguf`.
    """
    import gguf

    config = model.config
    check_gguf(type(model).__name__, config, tokenizer)
    architecture = ARCHITECTURES[type(model).__name__]
    writer = gguf.GGUFWriter(path, architecture.name, use_temp_file=False)
    writer.add_name(name if name != "mistral" else "mistral tuned")  # by that name transformers takes a Llama for one
    half = torch.bfloat16 if model.dtype == torch.bfloat16 else torch.float16
    files = gguf.LlamaFileType
    sixteen = files.MOSTLY_BF16 if half == torch.bfloat16 else files.MOSTLY_F16
    writer.add_file_type(files.MOSTLY_Q8_0 if in_eight_bits else sixteen)
    _write_settings(writer, config)
    write_tokenizer(tokenizer, writer, rows=model.get_input_embeddings().weight.shape[0], ends=ends)
    names = gguf.get_tensor_name_map(_key_of(architecture.name), config.num_hidden_layers)
    kinds: list[GGMLQuantizationType] = []
    for own, tensor in _weights(model, architecture):
        called = names.get_name(own, try_suffixes=(".weight", ".bias"))
        assert called is not None, own  # noqa: S101 - a class in the table has no other weights
        kinds.append(_kind_of(called, tensor, half, in_eight_bits=in_eight_bits))
        block, size = gguf.GGML_QUANT_SIZES[kinds[-1]]
        bytes_in_file = tensor.numel() // block * size
        writer.add_tensor_info(called, tensor.shape, np.dtype(np.float32), bytes_in_file, raw_dtype=kinds[-1])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for kind, (_, tensor) in zip(kinds, _weights(model, architecture), strict=True):  # no second copy of them all
        writer.write_tensor_data(gguf.quants.quantize(tensor.float().numpy(), kind))
    writer.close()


def _write_settings(writer: GGUFWriter, config: Any) -> None:
    """Sizes and constants, under the names that GPT-2's config answers to as well."""
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_vocab_size(config.vocab_size)
    if config.model_type == "gpt2":
        writer.add_feed_forward_length(config.n_inner or 4 * config.hidden_size)
        writer.add_layer_norm_eps(config.layer_norm_epsilon)
        return
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    width = _head_width(config)
    writer.add_rope_dimension_count(width)
    writer.add_key_length(width)
    writer.add_value_length(width)


def _weights(model: Any, architecture: Architecture) -> Iterator[tuple[str, Tensor]]:
    """The weights by transformers' names, in the file's order of rows; an output that is the embeddings is left out."""
    config = model.config
    factors = _rotation_factors(config)
    if factors is not None:
        yield "rope_freqs.weight", factors
    is_tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    for name, tensor in model.state_dict().items():
        if is_tied and name == "lm_head.weight":
            continue
        if name.endswith(architecture.transposed) and architecture.transposed:
            tensor = tensor.T.contiguous()
        elif architecture.pairs_rotated and ".q_proj." in name:
            tensor = _beside_each_other(tensor, config.num_attention_heads)
        elif architecture.pairs_rotated and ".k_proj." in name:
            tensor = _beside_each_other(tensor, config.num_key_value_heads)
        yield name, tensor


def _beside_each_other(tensor: Tensor, heads: int) -> Tensor:
    """Rows i and i + width/2 of a head, which are rotated together, one after the other."""
    rows, *rest = tensor.shape
    return tensor.reshape(heads, 2, rows // heads // 2, *rest).swapaxes(1, 2).reshape(tensor.shape)


def _kind_of(name: str, tensor: Tensor, half: torch.dtype, *, in_eight_bits: bool) -> GGMLQuantizationType:
    """The type that a weight has in the file; one that float16 has no number for stays in float32."""
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    if tensor.ndim < 2 or name.startswith("position_embd"):
        return GGMLQuantizationType.F32
    eight = GGMLQuantizationType.Q8_0
    if in_eight_bits and tensor.shape[-1] % GGML_QUANT_SIZES[eight][0] == 0:
        return eight
    if half == torch.bfloat16:
        return GGMLQuantizationType.BF16
    return GGMLQuantizationType.F16 if tensor.abs().max() <= GREATEST_HALF else GGMLQuantizationType.F32


def _rotation_factors(config: Any) -> Tensor | None:
    """By what each pair's frequency is divided in models of Llama 3.1 and later, of [width / 2]; None: as they are."""
    rope = getattr(config, "rope_parameters", None) or {}
    if rope.get("rope_type") != "llama3":
        return None
    width = _head_width(config)
    before, factor = rope["original_max_position_embeddings"], rope["factor"]
    slow, fast = rope["low_freq_factor"], rope["high_freq_factor"]
    turns = before / (2 * math.pi * rope["rope_theta"] ** (torch.arange(0, width, 2, dtype=torch.float64) / width))
    share = ((turns - slow) / (fast - slow)).clamp(0, 1)
    divided: Tensor = (1 / ((1 - share) / factor + share)).float()
    return divided


def _head_width(config: Any) -> int:
    width: int = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return width


def _key_of(name: str) -> Any:
    from gguf import MODEL_ARCH_NAMES

    return next(key for key, called in MODEL_ARCH_NAMES.items() if called == name)

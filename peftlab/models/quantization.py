"""A quantised base: matrices in 4 bits (https://arxiv.org/abs/2305.14314) or 8 (https://arxiv.org/abs/2208.07339).

bitsandbytes does it. Only the matrices of the base's layers are quantised. The task's head is new and trains, so it
stays in float32: quantised like the rest, its first forward would die for want of a scale, or its training be lost.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from peftlab.core.config import check_unused
from peftlab.core.errors import ConfigError, UnsupportedError
from peftlab.core.model_facts import ModelFacts
from peftlab.models.model_config import ModelConfig

if TYPE_CHECKING:
    import torch
    from torch import nn


def check_quantization(config: ModelConfig, facts: ModelFacts) -> None:
    """Refuse what cannot be quantised, before anything is loaded.

    Raises:
        ConfigError: bitsandbytes is not installed, or a key has no effect.
        UnsupportedError: The model has no linear layers.
    """
    in_four_bits = ("quantization: nf4 | fp4", config.quantization in ("nf4", "fp4"))
    check_unused(config, "model", {"double_quantization": in_four_bits})
    if config.quantization is None:
        return
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ConfigError(
            f"the quantization {config.quantization} needs bitsandbytes, which is not installed",
            where="model.quantization",
            hint="pip install bitsandbytes, or set it to null.",
        )
    if facts.weights and not facts.linear_modules():
        raise _nothing_to_quantize(facts.path)


def quantization_config(config: ModelConfig, *, dtype: torch.dtype, keep: Sequence[str]) -> Any:
    """Transformers' description of the quantisation.

    Args:
        config: The recipe's section, with a quantization.
        dtype: Of the weights that are not quantised.
        keep: Full names of modules that stay as they are.
    """
    import torch
    from transformers import BitsAndBytesConfig

    skipped = [re.escape(name) for name in keep]
    if config.quantization == "int8":
        # A threshold of zero: every column in int8. Outliers in float16 help large models, and cost a second product.
        return BitsAndBytesConfig(  # type: ignore[no-untyped-call]
            load_in_8bit=True, llm_int8_threshold=0.0, llm_int8_skip_modules=skipped
        )
    computed_in = config.quantization_compute_dtype
    return BitsAndBytesConfig(  # type: ignore[no-untyped-call]
        load_in_4bit=True,
        bnb_4bit_quant_type=config.quantization,
        bnb_4bit_use_double_quant=config.double_quantization,
        bnb_4bit_compute_dtype=dtype if computed_in == "auto" else getattr(torch, computed_in),
        llm_int8_skip_modules=skipped,
    )


def settle_quantized(model: nn.Module, path: str) -> None:
    """Make quantised layers fit for training.

    On CPUs with bfloat16 instructions, bitsandbytes repacks a 4-bit matrix in place as soon as it meets it in eval
    mode, and has no gradient through it afterwards. Training evaluates in between, so that is switched off. For 8-bit
    layers see :mod:`peftlab.models.int8`.

    Raises:
        UnsupportedError: No layer was quantised.
    """
    from peftlab.models.int8 import forget_inputs

    layers = quantized_layers(model)
    if not layers:
        raise _nothing_to_quantize(path)
    for layer in layers:
        if hasattr(layer, "support_avx512bf16_for_cpu"):
            layer.support_avx512bf16_for_cpu = False  # type: ignore[assignment]
        else:
            forget_inputs(layer)


def dequantize(model: Any) -> Any:
    """Turn quantised matrices into plain ones, in layers of the kind that the architecture has.

    transformers puts an ``nn.Linear`` into the place of every quantised layer, also where the architecture has GPT-2's
    ``Conv1D``, whose matrix lies the other way round. Saved like that, it could not be loaded, or, where it is square,
    would be loaded wrong without a word.

    Args:
        model: A ``PreTrainedModel`` with quantised layers; it is changed in place.

    Returns:
        The same model.
    """
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    quantized = {id(layer) for layer in quantized_layers(model) if getattr(layer, "source_cls", None) is Conv1D}
    transposed = [name for name, module in model.named_modules() if id(module) in quantized]
    model.dequantize()
    # transformers leaves these as they were, and by them peft takes the model for one that it cannot merge into.
    model.is_loaded_in_4bit = model.is_loaded_in_8bit = False
    for name in transposed:
        linear = model.get_submodule(name)
        layer = Conv1D(linear.out_features, linear.in_features)  # type: ignore[no-untyped-call]
        layer.weight = nn.Parameter(linear.weight.detach().T.contiguous())
        layer.bias = linear.bias
        model.set_submodule(name, layer)
    return model


def quantized_layers(model: nn.Module) -> list[nn.Module]:
    """The layers whose matrices are quantised."""
    from bitsandbytes.nn import Linear4bit, Linear8bitLt

    return [module for module in model.modules() if isinstance(module, Linear4bit | Linear8bitLt)]


def _nothing_to_quantize(path: str) -> UnsupportedError:
    return UnsupportedError(
        f"{path} has no linear layers, and only those can be quantised",
        where="model.quantization",
        hint="Set it to null.",
    )

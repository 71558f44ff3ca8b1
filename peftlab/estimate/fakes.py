"""Fake tensors for a model of shapes: torch runs the real model code on them, kernel choices included, without data."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, unset_fake_temporarily

from peftlab.models.quantization import quantized_layers


class _Quantized(FakeTensor):
    """A quantised matrix without numbers.

    bitsandbytes' own parameter classes cannot hold fake tensors. Its layers ask for their attributes alone; peft, when
    it unpacks a matrix for DoRA, asks for the name of the class too.
    """

    def __deepcopy__(self, _memo: Any) -> _Quantized:
        """Itself: it has no numbers that could be changed in one copy alone."""
        return self


class Params4bit(_Quantized):
    """Goes by the name of bitsandbytes' 4-bit matrix."""


class Int8Params(_Quantized):
    """Goes by the name of bitsandbytes' 8-bit matrix."""


def fake_quantized_layers(model: nn.Module) -> None:
    """Quantise the matrices of a model on the meta device by bitsandbytes itself, under a ``FakeTensorMode``.

    For the base alone, before a method wraps it: DoRA begins with the norms of the unpacked matrices.
    """
    for layer in quantized_layers(model) if _has_quantized(model) else ():
        _fake_quantized(layer)


def give_fake_tensors(model: nn.Module) -> None:
    """Replace every tensor of a model by a fake one on CPU; to be called under a ``FakeTensorMode``.

    Args:
        model: On the meta device, or partly on CPU. Tied parameters stay tied.
    """
    known: dict[int, Tensor] = {}

    def fake(tensor: Tensor) -> Tensor:
        if id(tensor) not in known:
            new = torch.empty(tensor.shape, dtype=tensor.dtype)
            if isinstance(tensor, nn.Parameter):
                new = nn.Parameter(new, requires_grad=tensor.requires_grad)
            known[id(tensor)] = new
        return known[id(tensor)]

    # The originals are kept alive until the end: `known` goes by their ids.
    originals: list[Any] = []
    for module in model.modules():
        originals.extend([*module._parameters.values(), *module._buffers.values()])
        _replace(module._parameters, fake)
        _replace(module._buffers, fake)
        _replace(vars(module), fake)
        for key, value in vars(module).items():
            if type(value) is dict and key not in ("_parameters", "_buffers"):  # such as peft's virtual tokens
                _replace(value, fake)


def drop_between_forwards(layers: Sequence[nn.Module], *, one_ahead: bool) -> None:
    """Let layers have their parameters only while they compute; to be called under a ``FakeTensorMode``.

    As hooks do for an offloaded base (:mod:`peftlab.training.fetching`). They cannot make a fake parameter anew.

    Args:
        layers: Of the base.
        one_ahead: Whether the next one's parameters are there too. Any layer may be next: the largest counts.
    """
    largest = max((sum(tensor.nbytes for tensor in layer.parameters(recurse=False)) for layer in layers), default=0)
    ahead: list[Tensor] = []
    for layer in layers:
        with unset_fake_temporarily():
            absent = {
                key: nn.Parameter(torch.empty(value.shape, dtype=value.dtype, device="meta"), requires_grad=False)
                for key, value in layer.named_parameters(recurse=False)
            }

        def fetch(module: nn.Module, _inputs: Any, absent: dict[str, nn.Parameter] = absent) -> None:
            if one_ahead and not ahead:
                ahead.append(torch.empty(largest, dtype=torch.uint8))
            for key, value in absent.items():
                present = torch.empty(value.shape, dtype=value.dtype)
                module._parameters[key] = nn.Parameter(present, requires_grad=False)

        def drop(module: nn.Module, _inputs: Any, _output: Any, absent: dict[str, nn.Parameter] = absent) -> None:
            module._parameters.update(absent)

        layer._parameters.update(absent)
        layer.register_forward_pre_hook(fetch)
        layer.register_forward_hook(drop, prepend=True)


def _replace(holder: dict[str, Any], fake: Any) -> None:
    for key, value in holder.items():
        if isinstance(value, Tensor) and not isinstance(value, _Quantized):
            holder[key] = fake(value)


def _has_quantized(model: nn.Module) -> bool:
    return any(type(module).__module__.startswith("bitsandbytes") for module in model.modules())


def _fake_quantized(layer: Any) -> None:
    """Quantise a fake matrix by bitsandbytes itself, which knows the shapes of what comes out."""
    import bitsandbytes.functional as quantize

    old = layer.weight
    with unset_fake_temporarily():  # fills the library's cache of code books with real ones
        if not hasattr(layer, "state"):
            quantize.quantize_4bit(torch.ones(64, 64), compress_statistics=True, quant_type=old.quant_type)
    matrix = torch.empty(layer.out_features, layer.in_features, dtype=_source_dtype(layer))
    if hasattr(layer, "state"):
        packed, scales, _ = quantize.int8_vectorwise_quant(matrix.half())
        attributes = {"CB": packed, "SCB": scales, "has_fp16_weights": False}
    else:
        packed, state = quantize.quantize_4bit(
            matrix,
            blocksize=old.blocksize,
            compress_statistics=old.compress_statistics,
            quant_type=old.quant_type,
            quant_storage=old.quant_storage,
        )
        attributes = {"quant_state": state, "bnb_quantized": True}
        attributes |= {
            key: getattr(old, key) for key in ("blocksize", "compress_statistics", "quant_type", "quant_storage")
        }
        layer.quant_state = state
    weight: Any = nn.Parameter(packed, requires_grad=False)
    weight.__class__ = Int8Params if hasattr(layer, "state") else Params4bit
    for key, value in attributes.items():
        setattr(weight, key, value)
    layer._parameters["weight"] = weight


def _source_dtype(layer: Any) -> torch.dtype:
    bias = layer.bias
    return torch.float32 if bias is None else bias.dtype


@contextlib.contextmanager
def one_text_a_row() -> Iterator[None]:
    """Tell transformers that no row holds several texts.

    Where there is no mask, it looks for their borders in the position ids; into fake ones it cannot look, and makes
    a mask in any case.
    """
    from transformers import masking_utils

    own = masking_utils.find_packed_sequence_indices
    masking_utils.find_packed_sequence_indices = lambda position_ids: None
    try:
        yield
    finally:
        masking_utils.find_packed_sequence_indices = own

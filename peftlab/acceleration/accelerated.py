"""The entry: a model whose known parts compute faster, as long as it trains or is evaluated, or for good."""

from __future__ import annotations

import contextlib
import functools
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import torch
from torch import nn

from peftlab.acceleration.attention_dropout import dropout_by_products
from peftlab.acceleration.casts import Casts
from peftlab.acceleration.device import device_type_of
from peftlab.acceleration.first_token import compute_first_token_only, computes_first_token_only
from peftlab.acceleration.masks import without_looking
from peftlab.acceleration.onednn import is_chosen, through_onednn, use_onednn
from peftlab.acceleration.unpadding import without_padding
from peftlab.core.tensors import is_part

_OFF = "_peftlab_acceleration_is_off"


def prepare(model: Any, acceleration: str) -> None:
    """Tell a base model that has just been loaded what its recipe wants; whatever wraps it later keeps to that.

    Args:
        model: A transformers model, without a method yet.
        acceleration: ``auto``, or ``off``: transformers' and peft's own code only.
    """
    setattr(model, _OFF, acceleration == "off")
    if acceleration != "off":
        compute_first_token_only(model)


def is_off(model: nn.Module) -> bool:
    """Whether the recipe wants the model's own code only."""
    return next((module.__dict__[_OFF] for module in model.modules() if _OFF in module.__dict__), False)


@contextlib.contextmanager
def switched_off(model: nn.Module) -> Iterator[None]:
    """The model by its own code only, as long as the context lasts."""
    own = model.__dict__.get(_OFF, False)
    setattr(model, _OFF, True)
    try:
        yield
    finally:
        setattr(model, _OFF, own)


@contextlib.contextmanager
def accelerated(model: nn.Module) -> Iterator[dict[str, int | str]]:
    """Let the parts of a model that are known compute by faster operations, as long as the context lasts.

    Linear layers with LoRA or AdaLoRA, gated MLPs, RMSNorms and rotary positions, in float32 on CPU, and in every
    common type on CUDA; experts with LoRA in any type; on CPUs that are not Intel's plain linear layers, GPT-2's too,
    go through oneDNN. All others are left as they are, and all are after :func:`prepare` with ``off``.

    On a card padded and packed batches are computed by their texts, where the model is known and the kernel is there.

    Yields:
        How many parts of each kind compute faster, or why none does; what depends on batches comes with the first one.
    """
    if is_off(model):
        yield {}
        return
    before: list[tuple[nn.Module, type]] = []
    found: Counter[str] = Counter(first_token=sum(map(computes_first_token_only, model.modules())))
    try:
        for module in model.modules():
            for kind, can_fuse, replacement in _known():
                if isinstance(module, replacement):
                    break  # within another such context
                if can_fuse(module):
                    own: Any = type(module)
                    before.append((module, own))
                    module.__class__ = _in_place_of(own, replacement)
                    found[kind] += 1
                    break
        fused = [module for module, _ in before]
        parts: dict[str, int | str] = {}
        with through_onednn(model) as layers, _casting_together(model, fused), _masks_of(model, parts):
            found["onednn_linear"] += layers
            found["rms_norm_kernel"] = sum(map(_has_kernel, fused))
            found["liger_swiglu"] = sum(map(_has_liger, fused))
            parts.update({kind: count for kind, count in found.items() if count})
            yield parts
    finally:
        for module, own in before:
            module.__class__ = own


@contextlib.contextmanager
def _casting_together(model: nn.Module, fused: Sequence[nn.Module]) -> Iterator[None]:
    """Let fused layers share their inputs, and their adapters be cast together in each forward pass.

    Not where all is in float32 and oneDNN multiplies, which gains nothing, or the base is in parts in several
    processes; nor on a card, where only autocast, over layers that it would cast too, has anything to cast: these
    compute as peft's do.
    """
    layers: list[Any] = [module for module in fused if hasattr(module, "lora_matrices")]
    bases = [layer.base_layer.weight for layer in layers]
    in_float32 = all(weight.dtype == torch.float32 for weight in bases)
    whole_on_cpu = all(device_type_of(weight) == "cpu" and not is_part(weight) for weight in bases)
    if not layers or (in_float32 and (is_chosen() or not whole_on_cpu)):
        yield
        return
    from peftlab.acceleration.lora_groups import SharedInputs
    from peftlab.acceleration.low_rank import CASTS

    weights = [] if in_float32 else [weight for layer in layers for weight in layer.weights_to_cast()]
    casts = Casts(weights, SharedInputs(model))
    for layer in layers:
        setattr(layer, CASTS, casts)
    handles = [model.register_forward_pre_hook(casts.begin), model.register_forward_hook(casts.end, always_call=True)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        for layer in layers:
            delattr(layer, CASTS)


def _has_kernel(module: nn.Module) -> bool:
    """Whether a norm is computed by a kernel of its card's."""
    from peftlab.acceleration.rms_norm import FusedRmsNorm, kernel_agrees

    if not isinstance(module, FusedRmsNorm) or not module.weight.is_cuda:
        return False
    return kernel_agrees(module.weight.device.type, module.weight.dtype)


def _has_liger(module: nn.Module) -> bool:
    """Whether a gated MLP is computed by liger-kernel."""
    from peftlab.acceleration.gated_mlp import FusedGatedMlp
    from peftlab.acceleration.liger import checked_swiglu

    weight = next(module.parameters(), None)
    if not isinstance(module, FusedGatedMlp) or weight is None or not weight.is_cuda:
        return False
    kind = weight.dtype if weight.is_floating_point() else torch.bfloat16  # a quantised one
    return checked_swiglu(str(weight.device), kind) is not None


@contextlib.contextmanager
def _masks_of(model: nn.Module, parts: dict[str, int | str]) -> Iterator[None]:
    """On a card masks are made without a look at their values, or not at all; on CPU attention has its own dropout."""
    first = next(model.parameters(), None)
    if first is None or device_type_of(first) != "cuda":
        with dropout_by_products(model, parts):
            yield
        return
    with without_padding(model, parts), without_looking(model):
        yield


def accelerate_inference(model: nn.Module) -> None:
    """Let a model that only answers from now on compute by oneDNN, where its recipe has nothing against it."""
    if not is_off(model):
        use_onednn(model)


def _known() -> list[tuple[str, Callable[[nn.Module], bool], Any]]:
    """Those whose libraries are loaded: there is no LoRA layer before there is peft, which takes seconds to load."""
    known: list[tuple[str, Callable[[nn.Module], bool], Any]] = []
    if "peft" in sys.modules:
        from peftlab.acceleration import adalora, experts, lora

        known.append(("lora_linear", lora.can_fuse, lora.FusedLora))
        known.append(("adalora_linear", adalora.can_fuse, adalora.FusedAdaLora))
        known.append(("lora_experts", experts.can_fuse, experts.FusedExperts))
    from peftlab.acceleration import conv1d, gated_mlp, layer_norm, rms_norm, rotary

    return [
        *known,
        ("conv1d", conv1d.can_fuse, conv1d.OneDnnConv1D),
        ("gated_mlp", gated_mlp.can_fuse, gated_mlp.FusedGatedMlp),
        ("layer_norm", layer_norm.can_fuse, layer_norm.FusedLayerNorm),
        ("rms_norm", rms_norm.can_fuse, rms_norm.FusedRmsNorm),
        ("rotary_attention", rotary.can_fuse, rotary.FusedRotaryAttention),
    ]


@functools.cache
def _in_place_of(own: Any, replacement: Any) -> type[nn.Module]:
    """A class that is still one of the module's own, for all who ask, and of its file."""
    if issubclass(replacement, own):
        return cast("type[nn.Module]", replacement)
    return type(replacement.__name__, (replacement, own), {"__module__": own.__module__})

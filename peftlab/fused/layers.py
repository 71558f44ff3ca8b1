"""A model whose parts are fused, as long as it trains or is evaluated."""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Callable, Iterator
from typing import Any, cast

from torch import nn

from peftlab.onednn import through_onednn


@contextlib.contextmanager
def fused(model: nn.Module) -> Iterator[None]:
    """Let the parts of a model that are known compute by fused operations, as long as the context lasts.

    Linear layers with LoRA, gated MLPs, RMSNorms and rotary positions, in float32 on CPU; plain linear layers, GPT-2's
    too, go through oneDNN. All others are left as they are.
    """
    before: list[tuple[nn.Module, type]] = []
    known = _known()
    try:
        for module in model.modules():
            for can_fuse, replacement in known:
                if can_fuse(module):
                    own: Any = type(module)
                    before.append((module, own))
                    module.__class__ = _in_place_of(own, replacement)
                    break
        with through_onednn(model):
            yield
    finally:
        for module, own in before:
            module.__class__ = own


def _known() -> list[tuple[Callable[[nn.Module], bool], Any]]:
    """Those whose libraries are loaded: there is no LoRA layer before there is peft, which takes seconds to load."""
    known: list[tuple[Callable[[nn.Module], bool], Any]] = []
    if "peft" in sys.modules:
        from peftlab.fused import lora

        known.append((lora.can_fuse, lora.FusedLora))
    from peftlab.fused import conv1d, gated_mlp, rms_norm, rotary

    return [
        *known,
        (conv1d.can_fuse, conv1d.OneDnnConv1D),
        (gated_mlp.can_fuse, gated_mlp.FusedGatedMlp),
        (rms_norm.can_fuse, rms_norm.FusedRmsNorm),
        (rotary.can_fuse, rotary.FusedRotaryAttention),
    ]


@functools.cache
def _in_place_of(own: Any, replacement: Any) -> type[nn.Module]:
    """A class that is still one of the module's own, for all who ask, and of its file."""
    if issubclass(replacement, own):
        return cast("type[nn.Module]", replacement)
    return type(replacement.__name__, (replacement, own), {"__module__": own.__module__})

"""Blocks of a model compiled by torch, one at a time: their small operations become a few kernels.

All blocks of a kind share one compiled function, whatever the lengths of texts. It is of transformers' and peft's own
code, so nothing else in this package is used beside it, but for the masks. Only passes that train are compiled; an
evaluation would compile a second time. https://docs.pytorch.org/tutorials/recipes/regional_compilation.html
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from peftlab.acceleration.device import device_type_of
from peftlab.acceleration.masks import without_looking

PART = "compiled_blocks"
"""What the record calls it: blocks, or why none is."""


@contextlib.contextmanager
def compiled_blocks(model: nn.Module, backend: str = "inductor") -> Iterator[dict[str, int | str]]:
    """Let a model's blocks compute by compiled functions while it trains, as long as the context lasts.

    Where one cannot be compiled all compute as they are written, from then on.

    Args:
        model: Of transformers, under whatever wraps it.
        backend: Of ``torch.compile``.

    Yields:
        How many blocks there are, or why none is compiled; whether it can be done shows in the first step.
    """
    blocks = find_blocks(model)
    first = next(model.parameters(), None)
    on_card = first is not None and device_type_of(first) == "cuda"
    if not blocks or any(parameter.is_meta for parameter in model.parameters()):
        yield {PART: "a part of the model is offloaded" if blocks else "no blocks are known in this model"}
        return
    found: dict[str, int | str] = {PART: len(blocks)}
    own = {block: block.__dict__.get("forward") for block in blocks}
    for block in blocks:
        block.forward = _Compiled(block.forward, backend, found)
    try:
        with without_looking(model) if on_card else contextlib.nullcontext(), _whole_at_once():
            yield found
    finally:
        for block, forward in own.items():
            if forward is None:
                del block.forward
            else:
                block.forward = forward


def find_blocks(model: nn.Module) -> list[nn.Module]:
    """The layers that a model consists of, as transformers marks them."""
    from transformers.modeling_layers import GradientCheckpointingLayer

    return [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]


class _Compiled:
    """A block's forward method, compiled."""

    def __init__(self, forward: Callable[..., Any], backend: str, found: dict[str, int | str]) -> None:
        self._own, self._found = forward, found
        self._compiled: Callable[..., Any] = torch.compile(forward, backend=backend, dynamic=True)
        self._has_worked = False

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        if not torch.is_grad_enabled() or isinstance(self._found[PART], str):
            return self._own(*arguments, **keywords)
        if self._has_worked:
            return self._compiled(*arguments, **keywords)
        try:
            results = self._compiled(*arguments, **keywords)
        except Exception as error:
            if not _is_of_compiling(error):
                raise
            words = " ".join(str(error).partition("\n\n")[0].split())  # advice for torch's own developers follows
            self._found[PART] = f"a block could not be compiled: {type(error).__name__}: {words}"[:300]
            return self._own(*arguments, **keywords)
        self._has_worked = True
        return results


def _is_of_compiling(error: Exception) -> bool:
    """Whether the compiler itself has failed, and not what it has compiled."""
    return type(error).__module__.startswith(("torch._dynamo", "torch._inductor", "triton"))


@contextlib.contextmanager
def _whole_at_once() -> Iterator[None]:
    """Forward and backward of a block are compiled together: where one cannot be, the first step knows."""
    import torch._functorch.config as settings

    with settings.patch(force_non_lazy_backward_lowering=True):
        yield

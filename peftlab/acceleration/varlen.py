"""Attention of texts of unequal length that stand behind one another in one row, none of which sees another.

By FlashAttention's kernel in torch, the one that ``torch.nn.attention.varlen`` and nested tensors call. It is called
here without the former's layer in Python, which is more work for the host, and which other versions of torch have with
other arguments. No mask is made: the borders are enough.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn import functional

from peftlab.acceleration.same_results import agree, ramp, real_tensors

KINDS = (torch.bfloat16, torch.float16)
LARGEST_HEAD = 256


@dataclass(frozen=True)
class Borders:
    """Where texts begin and end, and how they look at each other's tokens.

    Args:
        query: Where each text's queries begin, and the last text's end; int32, texts + 1.
        key: The same of keys and values.
        longest_query: Queries of a text, at most.
        longest_key: Keys of a text, at most.
        is_causal: Whether a token sees only those before it.
        window: How many tokens each one sees, itself included, if it is causal; None: all.
        scaling: Of the scores; None: 1 / √(head size).
    """

    query: Tensor
    key: Tensor
    longest_query: int
    longest_key: int
    is_causal: bool = False
    window: int | None = None
    scaling: float | None = None


def attend(query: Tensor, key: Tensor, value: Tensor, borders: Borders) -> Tensor:
    """Attention within each text.

    Args:
        query: Tokens × heads × head size.
        key: Tokens × heads × head size; the heads may be fewer, each for a group of the queries'.
        value: As the keys.
        borders: Of the texts.

    Returns:
        Tokens × heads × head size.
    """
    if query.device.type == "cpu" and not isinstance(query, FakeTensor):
        return attend_text_by_text(query, key, value, borders)
    return _kernel(query, key, value, borders)


def attend_text_by_text(query: Tensor, key: Tensor, value: Tensor, borders: Borders) -> Tensor:
    """The same by plain attention, one text after the other; needs to look at the borders."""
    groups = query.shape[1] // key.shape[1]
    key, value = (states.repeat_interleave(groups, dim=1) for states in (key, value))
    queries, keys = borders.query.diff().tolist(), borders.key.diff().tolist()
    parts = (torch.split(query, queries), torch.split(key, keys), torch.split(value, keys))
    attended = []
    for own, seen, values in zip(*parts, strict=True):
        mask = None
        if borders.is_causal:
            mask = torch.ones(len(own), len(seen), dtype=torch.bool, device=own.device).tril()
            mask = mask if borders.window is None else mask.triu(1 - borders.window)
        asking, *others = (states.transpose(0, 1)[None] for states in (own, seen, values))
        found = functional.scaled_dot_product_attention(
            asking, others[0], others[1], attn_mask=mask, scale=borders.scaling
        )
        attended.append(found[0])
    return torch.cat(attended, dim=1).transpose(0, 1)


def _kernel(query: Tensor, key: Tensor, value: Tensor, borders: Borders) -> Tensor:
    found: tuple[Tensor, ...] = torch.ops.aten._flash_attention_forward(
        query,
        key,
        value,
        borders.query,
        borders.key,
        borders.longest_query,
        borders.longest_key,
        0.0,  # dropout
        borders.is_causal,
        False,  # no mask of it
        scale=borders.scaling,
        window_size_left=None if borders.window is None else borders.window - 1,
        window_size_right=None if borders.window is None else 0,
    )
    return found[0]


def why_not(device: torch.device, kind: torch.dtype, head_size: int, groups: int) -> str | None:
    """Why the kernel cannot be taken; None where it can.

    Args:
        device: Of the tensors; where that is no card, they stand in for one that has the kernel.
        kind: The type that attention is computed in.
        head_size: Numbers of a head.
        groups: Heads of queries for each of keys.
    """
    if kind not in KINDS:
        return f"attention is computed in {str(kind).removeprefix('torch.')}, and the kernel takes half precision only"
    if head_size % 8 or head_size > LARGEST_HEAD:
        return f"heads have {head_size} numbers, and the kernel takes multiples of 8 up to {LARGEST_HEAD}"
    if device.type == "cuda" and not kernel_agrees(str(device), kind, head_size, groups):
        return "this torch has no kernel for this card that gives the same"
    return None


@functools.cache
def kernel_agrees(device: str, kind: torch.dtype, head_size: int, groups: int) -> bool:
    """Whether this torch has the kernel, and it and its gradients are right; tried once, on the device."""

    def compute(borders: Borders, *, kernel: bool) -> list[Tensor]:
        shapes = [(11, 2 * groups, head_size), (11, 2, head_size), (11, 2, head_size)]
        inputs = [ramp(*shape).to(device, kind) for shape in shapes]
        if not kernel:
            inputs = [states.double() for states in inputs]
        inputs = [states.requires_grad_() for states in inputs]
        query, key, value = inputs
        outputs = (_kernel if kernel else attend_text_by_text)(query, key, value, borders)
        gradient = ramp(*outputs.shape).to(device, kind).to(outputs.dtype)
        return [outputs.detach().double(), *(g.double() for g in torch.autograd.grad(outputs, inputs, gradient))]

    with real_tensors(), torch.inference_mode(mode=False), torch.enable_grad():
        ends = torch.tensor([0, 4, 5, 11], dtype=torch.int32, device=device)
        plain = Borders(ends, ends, 6, 6, scaling=0.3 * head_size**-0.5)
        for borders in (plain, replace(plain, is_causal=True), replace(plain, is_causal=True, window=3)):
            try:
                found = compute(borders, kernel=True)
            except (RuntimeError, AttributeError, TypeError):  # no such operation, or none for this card
                return False
            if not agree(found, compute(borders, kernel=False), 10 * torch.finfo(kind).eps):
                return False
    return True

"""Fingerprints of tensors: equal for equal bits in equal places, computed where the tensor lies.

The sum of all 32-bit words, each times an odd random number of its own place, in 64 bits. One changed word always
shows; words that have changed places do but for one case in four billion. It reads a tensor once, faster than SHA-256.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from peftlab.core.tensors import held_part, quantization_state
from peftlab.training.offload import frozen_tensors
from peftlab.training.sharding import whole

PIECE = 1 << 18
"""Words that are taken at once: what is made of them stays in a CPU's cache."""


@torch.no_grad()
def fingerprint(tensor: Tensor) -> str:
    """Type, shape and content of a tensor; of one that is in parts, those of this process's part."""
    tensor = held_part(tensor)
    about = f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"
    flat = tensor.detach().contiguous().flatten()
    if flat.numel() == 0:
        return about
    octets = flat.view(torch.uint8)
    aligned = octets.numel() % 4 == 0 and octets.storage_offset() % 4 == 0
    words = octets.view(torch.int32) if aligned else octets
    pieces = torch.split(words, PIECE)
    factors = _odd_numbers(min(PIECE, words.numel()), seed=0, device=words.device)
    sums = torch.stack([_weighted_sum(piece, factors[: piece.numel()]) for piece in pieces])
    total = (sums * _odd_numbers(len(pieces), seed=1, device=words.device)).sum()
    return f"{about} {int(total) & (1 << 64) - 1:016x}"


def fingerprints(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """The fingerprint of each tensor, as a whole."""
    return {name: fingerprint(whole(tensor)) for name, tensor in tensors.items()}


def _weighted_sum(words: Tensor, factors: Tensor) -> Tensor:
    if words.is_cuda:  # CUDA has no dot product of integers
        return (words * factors).sum()
    return torch.dot(words.to(torch.int64), factors)


def _odd_numbers(count: int, *, seed: int, device: torch.device) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.randint(-(1 << 62), 1 << 62, (count,), generator=generator) * 2 + 1).to(device)


def frozen_state(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """What training must leave alone, by name: parameters that do not train, the state of quantised ones, buffers.

    Left out are buffers that a forward changes rightly: the running statistics of batch norms, and the frequencies of
    rotary positions that depend on the text's length (``dynamic`` and ``longrope``).
    """
    yield from frozen_tensors(model)
    yield from quantization_state(model).items()
    for name, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) or _has_rotary_cache(module):
            continue
        for key, buffer in module.named_buffers(recurse=False):
            if not buffer.is_meta:
                yield f"{name}.{key}" if name else key, buffer


def grown_tables(model: nn.Module) -> set[str]:
    """Names of buffers that are no part of a checkpoint; some models make such a table longer for a longer text."""
    return {
        f"{name}.{key}" if name else key
        for name, module in model.named_modules()
        for key in module._non_persistent_buffers_set
    }


def _has_rotary_cache(module: nn.Module) -> bool:
    kinds = getattr(module, "rope_type", None)  # a name, or one for each type of layer
    names = kinds.values() if isinstance(kinds, dict) else [kinds]
    return any(isinstance(name, str) and ("dynamic" in name or name == "longrope") for name in names)

"""Whether a CUDA card computes in bfloat16 itself, in one place for weights, computation and estimates."""

from __future__ import annotations


def card_has_bfloat16() -> bool:
    """Whether the CUDA card at hand has units for bfloat16; True where there is none to ask.

    Cards older than Ampere only emulate it, many times slower than float32; torch counts that as support unless told
    otherwise.
    """
    import torch

    return not torch.cuda.is_available() or torch.cuda.is_bf16_supported(including_emulation=False)

"""Batches of texts for the models that augmentations work with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from peftlab.core.augmentation import LoadedModel

if TYPE_CHECKING:
    from torch import Tensor

SIZE = 32


def batches_by_length(lengths: Sequence[int]) -> list[list[int]]:
    """Positions of texts of like length, the longest first; the same for the same lengths."""
    order = sorted(range(len(lengths)), key=lambda at: (-lengths[at], at))
    return [order[start : start + SIZE] for start in range(0, len(order), SIZE)]


def padded(rows: Sequence[Sequence[int]], model: LoadedModel) -> dict[str, Tensor]:
    """What a model takes: ids and mask (rows × longest), padded on the right."""
    import torch

    longest = max(map(len, rows))
    pad = model.tokenizer.pad_token_id
    ids = [[*row, *[pad] * (longest - len(row))] for row in rows]
    mask = [[1] * len(row) + [0] * (longest - len(row)) for row in rows]
    return {"input_ids": torch.tensor(ids).to(model.device), "attention_mask": torch.tensor(mask).to(model.device)}

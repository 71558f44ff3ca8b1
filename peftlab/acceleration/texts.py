"""Where the tokens of a batch stand, told on the host, where it is made: a card would have to be waited for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

TEXTS = "texts"
"""An attribute of a mask, batch × length, on a card; and a keyword of language models, until their forward pass."""


@dataclass(frozen=True)
class Texts:
    """The texts of a batch, if all rows stood behind one another without what they are padded with.

    Args:
        numbers: ``places``, ``positions`` and ``bounds``, so that one copy moves all of them.
        tokens: Of all texts.
        count: Of texts.
        longest: Tokens of a text, at most.
        shape: Rows and length of the batch.
    """

    numbers: Tensor
    tokens: int
    count: int
    longest: int
    shape: tuple[int, int]

    @property
    def places(self) -> Tensor:
        """Of the tokens, counted through all rows; tokens."""
        return self.numbers[: self.tokens]

    @property
    def positions(self) -> Tensor:
        """Of each token within its text; tokens."""
        return self.numbers[self.tokens : 2 * self.tokens]

    @property
    def bounds(self) -> Tensor:
        """Where each text begins, and the last one ends, int32; texts + 1."""
        return self.numbers[2 * self.tokens :].view(torch.int32)[: self.count + 1]

    def to(self, device: torch.device) -> Texts:
        """On a device; nothing waits for the copy."""
        return replace(self, numbers=self.numbers.to(device, non_blocking=True))


def find_texts(batch: Mapping[str, Tensor]) -> Texts | None:
    """The texts of a batch on the host; None where nothing is padded or packed, or otherwise than on the right."""
    mask = batch.get("attention_mask")
    if mask is None or mask.ndim != 2 or not mask.numel():
        return None
    is_packed = "text_bounds" in batch
    rows, length = mask.shape
    lengths, columns = mask.sum(dim=1), torch.arange(length)
    on_the_right = bool((mask.bool() == (columns < lengths[:, None])).all())
    shortest = int(lengths.min())
    if not on_the_right or not shortest or (shortest == length and not is_packed):
        return None
    if "position_ids" in batch and not is_packed:
        return None
    places = mask.flatten().nonzero().flatten()
    positions = (batch["position_ids"] if is_packed else columns.expand(rows, length)).flatten()[places]
    begins = (positions == 0).nonzero().flatten()
    bounds = torch.cat([begins, torch.tensor([len(places)])])
    tokens, count = len(places), len(begins)
    is_pinned = mask.is_pinned()
    numbers = torch.empty(2 * tokens + count // 2 + 1, dtype=torch.int64, pin_memory=is_pinned)
    texts = Texts(numbers, tokens, count, int(bounds.diff().max()), (rows, length))
    texts.places.copy_(places)
    texts.positions.copy_(positions)
    texts.bounds.copy_(bounds)
    return texts

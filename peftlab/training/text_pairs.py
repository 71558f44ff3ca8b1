"""Texts without labels and their changed copies, as batches for the hooks that compare both."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

from peftlab.core.splits import EncodedSplit, Example
from peftlab.core.task import Task
from peftlab.training.evaluation import to_device

Pair = tuple[Example, Example]
"""A text, and its changed copy."""
Pick = Literal["random", "longest", "median"]


class EncodedPairs:
    """See :class:`peftlab.core.hooks.TextPairs`.

    Args:
        task: Makes the batches.
        pairs: At least one.
        pad_token_id: For padding.
        device: Where batches go.
    """

    def __init__(self, task: Task, pairs: Sequence[Pair], pad_token_id: int, device: torch.device) -> None:
        self._task, self._pad, self._device = task, pad_token_id, device
        self._pairs = sorted(pairs, key=lambda pair: max(map(task.length, pair)))
        self._pick: Pick = "random"

    def draw(self, count: int) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor]]:
        """A batch of texts and the batch of their copies.

        They are drawn with replacement from torch's own generator, whose state is in every checkpoint: a resumed run
        draws the same, and so does a step that is computed again.
        """
        known = len(self._pairs)
        if self._pick == "random":
            places = torch.randint(known, (count,)).tolist()
        elif self._pick == "longest":
            places = [known - 1 - number % known for number in range(count)]
        else:
            places = [known // 2] * count
        texts, copies = ([self._pairs[place][side] for place in places] for side in (0, 1))
        return self._batch(texts), self._batch(copies)

    @contextlib.contextmanager
    def picked(self, pick: Pick) -> Iterator[None]:
        """Pick pairs in another way, as long as the context lasts: the longest for memory, a usual one for FLOPs."""
        before, self._pick = self._pick, pick
        try:
            yield
        finally:
            self._pick = before

    def _batch(self, examples: Sequence[Example]) -> Mapping[str, Tensor]:
        return to_device(self._task.collate(examples, self._pad), self._device)


def pairs_of(texts: EncodedSplit, copies: EncodedSplit) -> list[Pair]:
    """Each copy with its text: both carry the place of the text in the source."""
    places = dict(zip(texts.index, texts.examples, strict=True))
    return [(places[at], copy) for at, copy in zip(copies.index, copies.examples, strict=True)]

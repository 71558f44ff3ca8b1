"""Which examples go into which batch.

Examples of like length go together, so that little of a batch is padding; but only within windows of the shuffled
order, so that an epoch stays random. A window of w of an epoch's n batches leaves padding in proportion to 1/w, and
lets a pair of texts meet in the next epoch again in proportion to w/n. So an epoch has five windows or more; where it
has few batches, windows are of √n batches, where the sum of both is least.

Only ``random.Random.random`` is used of the random generators: it is the one whose sequence Python promises to keep.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Iterator, Sequence

import numpy as np


def plan_epoch(
    lengths: Sequence[int],
    *,
    batch_size: int | None = None,
    max_tokens: int | None = None,
    seed: int,
    epoch: int,
    window: int = 50,
) -> list[list[int]]:
    """Plan the batches of one epoch. Equal arguments give equal plans, on every machine.

    Args:
        lengths: Tokens of each example.
        batch_size: Examples of a batch at most.
        max_tokens: Tokens of a batch at most, padding included (examples × longest). A longer example is alone.
        seed: The recipe's seed.
        epoch: From 0; each epoch is shuffled anew.
        window: So many batches' worth of shuffled examples are sorted by length together, at most; fewer where the
            epoch has few.

    Returns:
        Lists of positions in ``lengths``; each position is in exactly one of them.

    Raises:
        ValueError: Neither limit is given, or one is not positive.
    """
    _check_limits(batch_size, max_tokens)
    if not len(lengths):
        return []
    generator = random.Random(f"peftlab batches {seed} {epoch}")  # noqa: S311 - for shuffling
    order = _shuffled(len(lengths), generator)
    sizes = np.asarray(lengths, dtype=np.int64)
    in_batch = batch_size or max(1, (max_tokens or 1) // max(1, round(float(sizes.mean()))))
    batches_in_all = len(lengths) / in_batch
    step = in_batch * max(1, min(window, round(max(math.sqrt(batches_in_all), batches_in_all / 5))))
    batches: list[list[int]] = []
    for start in range(0, len(order), step):
        part = order[start : start + step]
        part = part[np.argsort(sizes[part], kind="stable")]
        batches.extend(_cut(part.tolist(), sizes[part].tolist(), batch_size, max_tokens))
    return [batches[position] for position in _shuffled(len(batches), generator).tolist()]


def plan_in_order_of_length(
    lengths: Sequence[int], *, batch_size: int | None = None, max_tokens: int | None = None
) -> list[list[int]]:
    """Plan batches for evaluation, the longest examples first: if memory does not suffice, that shows at once.

    Args:
        lengths: Tokens of each example.
        batch_size: Examples of a batch at most.
        max_tokens: Tokens of a batch at most, padding included. A longer example is alone.

    Returns:
        Lists of positions in ``lengths``; each position is in exactly one of them.

    Raises:
        ValueError: Neither limit is given, or one is not positive.
    """
    _check_limits(batch_size, max_tokens)
    sizes = np.asarray(lengths, dtype=np.int64)
    order = np.argsort(-sizes, kind="stable")
    return list(_cut(order.tolist(), sizes[order].tolist(), batch_size, max_tokens))


def _check_limits(batch_size: int | None, max_tokens: int | None) -> None:
    if batch_size is None and max_tokens is None:
        raise ValueError("batch_size or max_tokens is needed")
    if min(limit for limit in (batch_size, max_tokens) if limit is not None) < 1:
        raise ValueError("batch_size and max_tokens must be positive")


def _shuffled(count: int, generator: random.Random) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    keys = np.fromiter((generator.random() for _ in range(count)), dtype=np.float64, count=count)
    return np.argsort(keys, kind="stable")


def _cut(
    positions: Sequence[int], lengths: Iterable[int], batch_size: int | None, max_tokens: int | None
) -> Iterator[list[int]]:
    """Cut a sequence into batches within both limits."""
    batch: list[int] = []
    longest = 0
    for position, length in zip(positions, lengths, strict=True):
        longest_then = max(longest, length)
        full = batch_size is not None and len(batch) >= batch_size
        if batch and (full or (max_tokens is not None and (len(batch) + 1) * longest_then > max_tokens)):
            yield batch
            batch, longest_then = [], length
        batch.append(position)
        longest = longest_then
    if batch:
        yield batch

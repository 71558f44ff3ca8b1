"""Distances between many vectors, a block at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

BLOCK = 1024
"""So many rows are compared with all others at once."""


def squared_distances(
    rows: NDArray[np.float64], others: NDArray[np.float64]
) -> Iterator[tuple[slice, NDArray[np.float64]]]:
    """Blocks of rows, each with its squared distances to all others (block × others)."""
    lengths = np.einsum("ij,ij->i", others, others)
    for start in range(0, len(rows), BLOCK):
        block = rows[start : start + BLOCK]
        own = np.einsum("ij,ij->i", block, block)
        yield slice(start, start + len(block)), (own[:, None] + lengths - 2 * block @ others.T).clip(min=0)

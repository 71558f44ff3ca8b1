"""The nearest vectors: exactly for small catalogues, by a graph (HNSW, package ``usearch``) for large ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from peftlab.applications.recommend.history import Ints
from peftlab.applications.recommend.metrics import best_items
from peftlab.core.errors import UserError
from peftlab.core.files import atomic_file

Matrix = NDArray[np.float32]
WIDE = 128
"""How far the graph is searched (ef of Malkov and Yashunin, 2016): recall is measured by the benchmark."""


class Search:
    """Over vectors of the length 1.

    Args:
        vectors: Items × size.
        graph: Of :func:`build_graph`; None: exact.
    """

    def __init__(self, vectors: Matrix, graph: Any = None) -> None:
        self._vectors, self._graph = vectors, graph

    def nearest(self, vector: Matrix, count: int) -> Ints:
        """Places of the nearest items, the nearest first."""
        count = min(count, len(self._vectors))
        if self._graph is not None:
            return np.asarray(self._graph.search(vector, count).keys, dtype=np.int64)
        nearest: Ints = best_items((self._vectors @ vector)[None], count)[0]
        return nearest


def build_graph(vectors: Matrix, path: Path) -> None:
    """Write a graph over vectors.

    Raises:
        UserError: The package is not installed.
    """
    graph = _graph(vectors.shape[1])
    graph.add(np.arange(len(vectors)), vectors, threads=1)
    with atomic_file(path) as partial:
        graph.save(str(partial))


def open_search(vectors: Matrix, path: Path) -> Search:
    """A search by the graph that was written, or an exact one where there is none."""
    if not path.exists():
        return Search(vectors)
    graph = _graph(vectors.shape[1])
    graph.load(str(path))
    return Search(vectors, graph)


def _graph(size: int) -> Any:
    try:
        from usearch.index import Index
    except ImportError:
        raise UserError(
            "large catalogues need usearch", hint="pip install 'peftlab[recommend]', or set `approximate_from` higher."
        ) from None
    return Index(ndim=size, metric="ip", dtype="f32", expansion_search=WIDE)

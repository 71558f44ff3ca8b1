"""Search by words: BM25 over the entries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from peftlab.core.words import WORD


class WordIndex:
    """BM25 (Robertson and Zaragoza, 2009) as the package bm25s computes it.

    Args:
        documents: A text each.
    """

    def __init__(self, documents: Sequence[str]) -> None:
        import bm25s

        self._count = len(documents)
        self._index: Any = bm25s.BM25()
        self._index.index([_words(text) for text in documents], show_progress=False)

    def scores(self, text: str) -> NDArray[np.float32]:
        """How well each document fits the words of a text (documents); 0: not at all."""
        words = [word for word in _words(text) if word in self._index.vocab_dict]
        if not words:
            return np.zeros(self._count, dtype=np.float32)
        return np.asarray(self._index.get_scores(words), dtype=np.float32)

    def order(self, text: str) -> list[int]:
        """The places of all documents, the best first; of those that fit alike the first, on every processor."""
        found: list[int] = np.argsort(-self.scores(text), kind="stable").tolist()
        return found


def _words(text: str) -> list[str]:
    return [word.casefold() for word in WORD.findall(text)]

"""What is learned of a new item from: its text's vector, and beside it which of the catalogue's common words it has.

A vector blurs what a catalogue tells by a word: a year, a genre, a brand. Words are weighed by how seldom they are
(Spärck Jones, Journal of Documentation 28, 1972).
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from peftlab.applications.recommend.history import Ints

MOST_WORDS = 500
LEAST_ITEMS = 5
MOST_SHARE = 0.5
"""A word of more items tells none apart."""
WORTH = 0.5
"""The length of an item's row of words; its vector has the length 1. Found on MovieLens' inner split, as the others."""
WORD = re.compile(r"\w+")
Matrix = NDArray[np.float32]


@dataclass(frozen=True)
class Traits:
    """Of each item.

    Args:
        vectors: Items × size.
        words: Items × words, sparse.
    """

    vectors: Matrix
    words: Any

    def rows(self, items: Ints) -> Matrix:
        """Of some items both, side by side."""
        return np.concatenate([self.vectors[items], self.words[items].toarray()], axis=1, dtype=np.float32)

    def products(self, right: Matrix, items: Ints) -> Matrix:
        """Some items × columns: products with what has a row for each trait."""
        size = self.vectors.shape[1]
        found: Matrix = (self.vectors[items] @ right[:size] + self.words[items] @ right[size:]).astype(np.float32)
        return found

    def with_vectors(self, vectors: Matrix) -> Traits:
        """The same words, beside other vectors."""
        return Traits(vectors, self.words)


def traits_of(vectors: Matrix, texts: Sequence[str]) -> Traits:
    """Join vectors with the words of the same texts."""
    found = [sorted(set(WORD.findall(text.lower()))) for text in texts]
    items_of = Counter(word for words in found for word in words)
    usable = [(word, count) for word, count in items_of.items() if LEAST_ITEMS <= count <= MOST_SHARE * len(texts)]
    kept = sorted(usable, key=lambda each: (-each[1], each[0]))[:MOST_WORDS]
    place = {word: at for at, (word, _) in enumerate(kept)}
    seldom = np.log(len(texts) / np.array([count for _, count in kept], dtype=np.float64))
    rows = [[place[word] for word in words if word in place] for words in found]
    starts = np.cumsum([0, *map(len, rows)])
    columns = np.array([column for row in rows for column in row], dtype=np.int64)
    weights = seldom[columns]
    lengths = np.sqrt(np.array([np.square(weights[start:stop]).sum() for start, stop in itertools.pairwise(starts)]))
    weights = WORTH * weights / np.repeat(np.maximum(lengths, 1e-12), np.diff(starts))
    shape = (len(texts), len(kept))
    return Traits(vectors, scipy.sparse.csr_matrix((weights.astype(np.float32), columns, starts), shape=shape))

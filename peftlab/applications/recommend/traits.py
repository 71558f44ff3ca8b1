"""What is learned of a new item from: its text's vector, and beside it which of the catalogue's common words it has.

A vector blurs what a catalogue tells by a word: a year, a genre, a brand. Words are weighed by how seldom they are
(Spärck Jones, Journal of Documentation 28, 1972).
"""

from __future__ import annotations

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
WORD = r"\w+"
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

    @property
    def size(self) -> int:
        """Traits of an item."""
        return int(self.vectors.shape[1] + self.words.shape[1])

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
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.preprocessing import normalize

    counter = CountVectorizer(
        binary=True, min_df=LEAST_ITEMS, max_df=MOST_SHARE, max_features=MOST_WORDS, token_pattern=WORD
    )
    try:
        has = counter.fit_transform(texts)
    except ValueError:  # no word is in enough items, and in few enough
        return Traits(vectors, scipy.sparse.csr_matrix((len(texts), 0), dtype=np.float32))
    seldom = np.log(len(texts) / np.asarray(has.sum(axis=0)))
    words = WORTH * normalize(has.multiply(seldom).tocsr())
    return Traits(vectors, words.astype(np.float32))

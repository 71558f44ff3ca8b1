"""Vectors of texts by their words alone: where no model gives any, and where a model must have no part in it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from peftlab.core.words import split_words

SIZE = 64


def word_vectors(texts: Sequence[str]) -> NDArray[np.float64]:
    """Texts × at most ``SIZE``: the first singular vectors of TF-IDF (latent semantic analysis)."""
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    pipeline = TfidfVectorizer(sublinear_tf=True, tokenizer=split_words, token_pattern=None, dtype=np.float64)
    words = pipeline.fit_transform([text if text.strip() else "." for text in texts])
    components = min(SIZE, min(words.shape) - 1)
    if components < 1:
        return np.asarray(words.toarray())
    return np.asarray(TruncatedSVD(components, random_state=0).fit_transform(words))

"""New topics: texts of which the adapter is not sure, where many of them speak of the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

MOST_TEXTS = 600
LEAST_SIZE = 5
FARTHEST = 0.85
"""Cosine distance, on average over pairs, up to which texts are one cluster."""
NAMING_WORDS = 4
MOST_WORDS = 10_000
"""The most frequent ones: long texts have a million, and each takes a column for all texts."""
WORD = r"(?u)\b[^\W\d]{3,}\b"


@dataclass(frozen=True)
class Proposal:
    """Texts that may be a topic of their own.

    Args:
        words: What tells them from the others.
        members: Positions of the texts, the most typical first.
    """

    words: tuple[str, ...]
    members: tuple[int, ...]


def propose(texts: Sequence[str]) -> list[Proposal]:
    """Cluster texts by their words (TF-IDF, average linkage); the largest cluster first.

    Args:
        texts: Of which the adapter is not sure; copies left out. At most ``MOST_TEXTS`` of them are looked at.
    """
    from sklearn.cluster import AgglomerativeClustering
    from sklearn.feature_extraction.text import TfidfVectorizer

    texts = texts[:MOST_TEXTS]
    if len(texts) < 2 * LEAST_SIZE:
        return []
    turn = TfidfVectorizer(
        stop_words="english", sublinear_tf=True, min_df=2, max_df=0.5, token_pattern=WORD, max_features=MOST_WORDS
    )  # fmt: skip
    try:
        vectors = turn.fit_transform(texts).toarray()
    except ValueError:  # no word occurs twice
        return []
    told = np.flatnonzero(vectors.any(axis=1))
    if len(told) < LEAST_SIZE:
        return []
    clusters = AgglomerativeClustering(
        n_clusters=None, distance_threshold=FARTHEST, metric="cosine", linkage="average"
    ).fit_predict(vectors[told])
    names = turn.get_feature_names_out()
    mean = vectors.mean(axis=0)
    found = []
    for cluster in range(clusters.max() + 1):
        members = told[clusters == cluster]
        if len(members) < LEAST_SIZE:
            continue
        centre = vectors[members].mean(axis=0)
        best = np.argsort(mean - centre, kind="stable")[:NAMING_WORDS]
        typical = members[np.argsort(-(vectors[members] @ centre), kind="stable")]
        words = tuple(str(names[at]) for at in best if centre[at] > mean[at])
        found.append(Proposal(words, tuple(int(at) for at in typical)))
    return sorted(found, key=lambda proposal: -len(proposal.members))

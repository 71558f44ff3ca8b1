"""Slices of the audited rows: what is known of them without looking at the errors."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from peftlab.core.audit import Audited, texts_of
from peftlab.core.words import split_words, word_set

MOST_VALUES = 30
"""Of a column: one with more is no column of groups."""
RARE = 2
"""A word that is in so many texts, or fewer, is rare."""


@dataclass(frozen=True)
class Slice:
    """Some of the rows.

    Args:
        name: In the figure's name.
        what: Says which texts they are, as the beginning of a sentence.
        members: Of each row, whether it is one (rows).
    """

    name: str
    what: str
    members: NDArray[np.bool_]


def all_slices(audited: Audited, *, fewest: int) -> tuple[list[Slice], list[str]]:
    """Slices by class, length, columns and rare words, and a sentence on what was too small to say anything of."""
    found = [*_by_class(audited), *_by_columns(audited)]
    if not audited.has_images:
        found += [*_by_length(audited), *_by_rare_words(audited)]
    kept = [each for each in found if fewest <= each.members.sum() <= len(audited) - fewest]
    small = [f"{each.what} ({each.members.sum()})" for each in found if each.members.sum() < fewest]
    notes = []
    if small:
        shown = "; ".join(small[:8]) + (f"; and {len(small) - 8} more" if len(small) > 8 else "")
        notes.append(f"Too few rows to say anything (fewer than {fewest}): {shown}.")
    return kept, notes


def found_clusters(audited: Audited, number: int, *, fewest: int) -> list[Slice]:
    """Groups of like texts, by k-means of the model's vectors.

    The errors have no part in how they are formed, so all rows can test them; a group that was chosen for its errors
    would need other rows for that.
    """
    if number < 2:
        return []
    from sklearn.cluster import KMeans

    vectors = audited.embeddings
    vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    state = int(audited.random("clusters").integers(2**31))
    groups = KMeans(number, n_init=3, random_state=state).fit_predict(vectors)
    words = [word_set(text) for text in audited.texts]
    found = []
    for group in range(number):
        members = groups == group
        if fewest <= members.sum() <= len(audited) - fewest:
            typical = ", ".join(_typical(words, members))
            what = "Like images" if audited.has_images else f"Like texts, with words such as {typical}"
            found.append(Slice(f"cluster.{group}", what, members))
    return found


def _typical(words: list[set[str]], members: NDArray[np.bool_]) -> list[str]:
    """The words whose share of the group is most above that of all texts."""
    everywhere = Counter(word for row in words for word in row)
    inside = Counter(word for at in members.nonzero()[0] for word in words[at])
    size, rows = int(members.sum()), len(words)
    return sorted(inside, key=lambda word: (everywhere[word] / rows - inside[word] / size, word))[:5]


def _by_class(audited: Audited) -> list[Slice]:
    if audited.classes is None:
        return []
    right, _ = audited.classes
    return [
        Slice(f"class.{name}", f"Texts of the class {name}", right == at)
        for at, name in enumerate(audited.model.labels)
        if (right == at).any()
    ]


def _by_length(audited: Audited) -> list[Slice]:
    lengths = np.array([len(split_words(text)) for text in audited.texts])
    edges = np.unique(np.quantile(lengths, (0.25, 0.75)).astype(int))
    if len(edges) < 2:
        return []
    low, high = edges.tolist()
    return [
        Slice("length.short", f"Short texts, of up to {low} words", lengths <= low),
        Slice("length.long", f"Long texts, of {high} words or more", lengths >= high),
    ]


def _by_columns(audited: Audited) -> list[Slice]:
    found = []
    for column in audited.slices:
        values = ["" if value is None else str(value) for value in audited.rows.columns[column]]
        numbers = _numbers(audited.rows.columns[column])
        if numbers is not None and len(set(values)) > MOST_VALUES:
            quarters = np.quantile(numbers, (0.25, 0.75))
            found += [
                Slice(f"column.{column}.low", f"{column} up to {quarters[0]:g}", numbers <= quarters[0]),
                Slice(f"column.{column}.high", f"{column} of {quarters[1]:g} or more", numbers >= quarters[1]),
            ]
            continue
        # Values that differ by blanks alone are one slice: a figure has a name of its own.
        names = [re.sub(r"\s+", "_", value.strip()) or "(nothing)" for value in values]
        for name, _ in Counter(names).most_common(MOST_VALUES):
            shown = values[names.index(name)].strip() or "(nothing)"
            members = np.array([each == name for each in names])
            found.append(Slice(f"column.{column}.{name}", f"{column} is {shown}", members))
    return found


def _by_rare_words(audited: Audited) -> list[Slice]:
    texts = audited.texts if audited.train is None else texts_of(audited.train, audited.task)
    known = Counter(word for text in texts for word in word_set(text))
    where = "the audited rows" if audited.train is None else "training"
    words = [word_set(text) for text in audited.texts]
    shares = np.array([sum(known[word] <= RARE for word in row) / max(len(row), 1) for row in words])
    edge = float(np.quantile(shares, 0.75))
    if edge <= 0:
        return []
    return [Slice("rare_words", f"Texts of which {edge:.0%} of the words or more are rare in {where}", shares >= edge)]


def _numbers(values: Any) -> NDArray[np.float64] | None:
    try:
        numbers = np.array([float(value) for value in values])
    except (TypeError, ValueError, OverflowError):
        return None
    return numbers if np.isfinite(numbers).all() else None

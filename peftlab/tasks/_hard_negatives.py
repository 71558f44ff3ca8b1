"""Which documents are right for which query; and mining: the nearest that are not, by a model's own vectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from peftlab.core.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

ROWS_AT_ONCE = 1024
"""Queries whose similarities with all documents are held at once."""


@dataclass(frozen=True)
class Corpus:
    """The different documents of a split.

    Args:
        rows: A row of each.
        own: For each row the place of its document in ``rows``.
        right: For each query, by its key, the places of all documents of equal queries, and of one that is the query
            itself: it is found whatever was learned.
    """

    rows: list[int]
    own: list[int]
    right: dict[int, list[int]]


def corpus_of(keys: Tensor) -> Corpus:
    """The corpus of rows.

    Args:
        keys: Rows × 2 or more (query, document); equal for equal texts.
    """
    places: dict[int, int] = {}
    rows, own, right = list[int](), list[int](), dict[int, list[int]]()
    for row, (query, document) in enumerate(keys[:, :2].tolist()):
        if document not in places:
            places[document] = len(rows)
            rows.append(row)
        own.append(places[document])
        right.setdefault(query, []).append(places[document])
    for query, of_query in right.items():
        of_query += [places[query]] if query in places else []
    return Corpus(rows, own, right)


def ranks_in_corpus(queries: Tensor, documents: Tensor, keys: Tensor) -> list[tuple[int, float, float]]:
    """Of each query the rank of its own document among all, and its similarity with it and with the nearest other one.

    Other documents of an equal query, and the query's own text, are left out. What is as near as the right one counts
    as nearer.

    Args:
        queries: Vectors, a row each.
        documents: Vectors of their documents.
        keys: Rows × 2 or more (query, document); equal for equal ones, whether queries or documents.
    """
    import torch

    corpus, found = corpus_of(keys), []
    for start in range(0, len(queries), ROWS_AT_ONCE):
        similarities = queries[start : start + ROWS_AT_ONCE] @ documents[corpus.rows].T
        for row, others in enumerate(similarities, start=start):
            mine = others[corpus.own[row]].clone()
            others[corpus.right[int(keys[row, 0])]] = -torch.inf
            found.append((1 + int((others >= mine).sum()), float(mine), float(others.max())))
    return found


def mine(queries: Tensor, documents: Tensor, keys: Tensor, *, count: int, margin: float) -> Tensor:
    """The rows whose documents are the hard negatives of each row (rows × count), the nearest first.

    A document that is as near as the right one, less the margin, may well be right too, and is left out; so is every
    document of an equal query. Where fewer are left than are wanted, the farthest of these take their place.

    Args:
        queries: Vectors, a row each.
        documents: Vectors of their documents.
        keys: Rows × 2 (query, document); equal for equal texts.
        count: Negatives of a row.
        margin: Of similarities.

    Raises:
        DataError: There are fewer other documents than are wanted.
    """
    import torch

    corpus = corpus_of(keys)
    if len(corpus.rows) - max(len(set(right)) for right in corpus.right.values()) < count:
        raise DataError(
            f"there are {len(corpus.rows)} documents to train on, too few to find {count} wrong ones for each query",
            where="task.mined_negatives",
            hint="Ask for fewer.",
        )
    rows, found = torch.tensor(corpus.rows), []
    for start in range(0, len(queries), ROWS_AT_ONCE):
        similarities = queries[start : start + ROWS_AT_ONCE] @ documents[rows].T
        for row, near in enumerate(similarities, start=start):
            is_too_near = near > near[corpus.own[row]] - margin
            # Those that are too near come last, the farthest of them first; the right ones never.
            order = torch.where(is_too_near, 2 * near.min() - 1 - near, near)
            order[corpus.right[int(keys[row, 0])]] = -torch.inf
            found.append(rows[order.topk(count).indices])
    return torch.stack(found)

"""What users' choices alone say: popularity, item-kNN, ALS and EASE, for users that a model has never seen too.

A user is a row of weights over items (the history, recent events weighing more), so a model that was fitted once
scores new events without another fit.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import scipy.linalg
import scipy.sparse
from numpy.typing import NDArray

from peftlab.applications.recommend.history import History, Ints
from peftlab.core.files import atomic_file

NEIGHBOURS = 50
CONFIDENCE = 4.0
"""The confidence of a choice; that of no choice is 1 (Hu, Koren and Volinsky, ICDM 2008)."""
PENALTY = 1.0
ROUNDS = 15
Matrix = NDArray[np.float32]


@dataclass(frozen=True)
class Collaborative:
    """Models of choices.

    Args:
        popularity: How many users chose each item.
        exact: Places of the items that EASE knows, the most popular ones.
        ease: Their weights on each other; the diagonal is 0.
        factors: Items × size, of ALS.
        neighbours: Items × items, sparse: cosines of the nearest neighbours.
        users: How many users there were.
    """

    popularity: NDArray[np.float64]
    exact: Ints
    ease: Matrix
    factors: Matrix
    neighbours: Any
    users: int

    @cached_property
    def popular(self) -> Matrix:
        """A score of each item, the same for all users: the logarithm of its popularity."""
        return np.log1p(self.popularity).astype(np.float32)

    @cached_property
    def place_in_ease(self) -> Ints:
        """Of each item its row in EASE's weights; −1: EASE does not know it."""
        found = np.full(len(self.popularity), -1, dtype=np.int64)
        found[self.exact] = np.arange(len(self.exact))
        return found

    def by_ease(self, histories: Any) -> Matrix:
        """Users × items, from a sparse matrix of histories; 0 for items that EASE does not know."""
        found = np.zeros(histories.shape, np.float32)
        for user in range(histories.shape[0]):
            row = histories[user]
            places = self.place_in_ease[row.indices]
            known = places >= 0
            found[user, self.exact] = row.data[known] @ self.ease[places[known]]
        return found

    def by_neighbours(self, histories: Any) -> Matrix:
        """Users × items: sums of cosines."""
        found: Matrix = (histories @ self.neighbours).toarray().astype(np.float32)
        return found

    @cached_property
    def _gram(self) -> Matrix:
        return gram_of(self.factors)

    def user_factors(self, histories: Any) -> Matrix:
        """Users × size: what ALS would give these histories, with items' factors as they are."""
        return user_factors(self.factors, histories, self._gram)

    def by_factors(self, histories: Any) -> Matrix:
        """Users × items: products of factors."""
        return self.user_factors(histories) @ self.factors.T


def fit_collaborative(
    history: History, *, factors: int, exact_items: int, regularization: float, seed: int
) -> Collaborative:
    """Fit all of them.

    Args:
        history: What users chose.
        factors: Size of the factors of ALS (Hu, Koren and Volinsky, ICDM 2008; package ``implicit``).
        exact_items: EASE (Steck, WWW 2019) is fitted to so many of the most popular items.
        regularization: Of EASE.
        seed: Of ALS's start.
    """
    matrix = history.matrix
    exact = most_popular(history, exact_items)
    return Collaborative(
        history.popularity,
        exact,
        fit_ease(matrix[:, exact], regularization),
        fit_als(matrix, factors, seed),
        _fit_neighbours(matrix),
        len(history.users),
    )


def most_popular(history: History, count: int) -> Ints:
    """The places of at most so many items, those that the most users chose; none that nobody did."""
    known = np.flatnonzero(history.popularity > 0)
    return np.sort(known[np.argsort(-history.popularity[known], kind="stable")[:count]])


def fit_ease(matrix: Any, regularization: float) -> Matrix:
    """The weights of EASE in closed form: −P / diag(P), P the inverse of the regularised Gram matrix."""
    gram = (matrix.T @ matrix).toarray().astype(np.float64)
    gram[np.diag_indices(len(gram))] += regularization
    inverse = scipy.linalg.inv(gram, overwrite_a=True, check_finite=False)
    weights: Matrix = (-inverse / np.diag(inverse)).astype(np.float32)
    np.fill_diagonal(weights, 0)
    return weights


def gram_of(factors: Matrix) -> Matrix:
    """What the items that a user did not choose say of the user, with the penalty."""
    found: Matrix = factors.T @ factors + PENALTY * np.eye(factors.shape[1], dtype=np.float32)
    return found


def user_factors(factors: Matrix, histories: Any, gram: Matrix | None = None) -> Matrix:
    """Users × size: what ALS gives these histories, with items' factors as they are.

    Args:
        factors: Items × size.
        histories: Users × items, sparse.
        gram: Of :func:`gram_of`, where it is known.
    """
    gram, rows = gram_of(factors) if gram is None else gram, []
    for user in range(histories.shape[0]):
        row = histories[user]
        chosen, weights = factors[row.indices], row.data * CONFIDENCE
        rows.append(
            np.linalg.solve(gram + chosen.T @ (chosen * (weights - 1)[:, None]), chosen.T @ weights)
            if len(row.indices)
            else np.zeros(len(gram), np.float32)
        )
    return np.array(rows, np.float32).reshape(-1, factors.shape[1])


def fit_als(matrix: Any, factors: int, seed: int) -> Matrix:
    """The factors of items by ALS; ``factors`` of them, or as many as the matrix has."""
    from implicit.cpu.als import AlternatingLeastSquares

    size = max(1, min(factors, min(matrix.shape) - 1))
    model = AlternatingLeastSquares(
        factors=size, regularization=PENALTY, alpha=CONFIDENCE, iterations=ROUNDS, random_state=seed, num_threads=1
    )
    model.fit(matrix, show_progress=False)
    return np.asarray(model.item_factors, np.float32)


def _fit_neighbours(matrix: Any) -> Any:
    from implicit.nearest_neighbours import all_pairs_knn

    length = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=0)).ravel())
    scaled = matrix.multiply(1 / np.maximum(length, 1e-12)).tocsr().astype(np.float64)
    near = all_pairs_knn(scaled, NEIGHBOURS + 1, num_threads=1, show_progress=False)
    found = scipy.sparse.csr_matrix(near, dtype=np.float32)
    found.setdiag(0)
    found.eliminate_zeros()
    return found.T.tocsr()


def write_collaborative(path: Path, models: Collaborative) -> None:
    """Write the models into a file of numpy's."""
    near = models.neighbours.tocsr()
    with atomic_file(path) as partial, partial.open("wb") as file:
        np.savez(
            file,
            popularity=models.popularity,
            exact=models.exact,
            ease=models.ease,
            factors=models.factors,
            near_data=near.data,
            near_indices=near.indices,
            near_starts=near.indptr,
            users=np.array(models.users),
        )


def load_collaborative(path: Path) -> Collaborative:
    """What :func:`write_collaborative` wrote."""
    with np.load(path, allow_pickle=False) as found:
        popularity = found["popularity"]
        near = scipy.sparse.csr_matrix(
            (found["near_data"], found["near_indices"], found["near_starts"]), shape=(len(popularity),) * 2
        )
        return Collaborative(popularity, found["exact"], found["ease"], found["factors"], near, int(found["users"]))

"""Slices of rows whose error may be above that of the rest: p-values that are corrected for all slices together."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

DRAWS = 2000
MOST_NUMBERS = 1_000_000
"""Of permuted errors that are held at once."""


def slice_p_values(
    errors: NDArray[np.float64],
    members: NDArray[np.bool_],
    generator: np.random.Generator,
    *,
    draws: int = DRAWS,
) -> NDArray[np.float64]:
    """One-sided p-values that errors fall on rows without regard to a slice, corrected for the number of slices.

    The smallest p-value of all slices is compared with what permuted errors give (Westfall and Young, Resampling-Based
    Multiple Testing, 1993, minP, single step): slices may overlap, and those too small to show anything cost nothing.
    Alone, a slice has the hypergeometric test where errors are 0 or 1, else a normal one of its sum.

    Args:
        errors: Of each row (rows).
        members: Which rows belong to a slice (slices × rows).
        generator: Draws the permutations.
        draws: How many; the smallest p-value is 1 / (draws + 1).
    """
    if not len(members):
        return np.empty(0)
    sizes = members.sum(axis=1)
    alone = _Test(errors, sizes)
    observed = alone(members @ errors)
    as_numbers = members.astype(np.float64)
    smallest: list[NDArray[np.float64]] = []
    at_once = max(MOST_NUMBERS // len(errors), 1)
    for start in range(0, draws, at_once):
        count = min(at_once, draws - start)
        permuted = generator.permuted(np.tile(errors, (count, 1)), axis=1)
        smallest.append(alone(as_numbers @ permuted.T).min(axis=0))
    least = np.concatenate(smallest)
    # Equal tables give equal p-values but for their last digits.
    return np.asarray((1 + (least[None] <= observed[:, None] * (1 + 1e-9)).sum(axis=1)) / (draws + 1))


class _Test:
    """The p-value of each slice's sum of errors, by a table for whole numbers."""

    def __init__(self, errors: NDArray[np.float64], sizes: NDArray[np.int64]) -> None:
        from scipy.stats import hypergeom

        self._is_binary = bool(np.isin(errors, (0, 1)).all())
        rows = len(errors)
        self._mean = sizes * errors.mean()
        variance = sizes * (rows - sizes) / max(rows - 1, 1) * errors.var()
        # The sum over all rows, or of equal errors, varies by rounding alone: no number of these deviations is many.
        varies = variance > 1e-18 * (sizes * np.abs(errors).max(initial=0)) ** 2
        self._deviation = np.where(varies, np.sqrt(np.maximum(variance, 0)), np.inf)
        if self._is_binary:
            counts = np.arange(int(sizes.max(initial=0)) + 1)
            self._table = hypergeom.sf(counts[None] - 1, rows, int(errors.sum()), sizes[:, None])

    def __call__(self, sums: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sums are slices, or slices × draws."""
        from scipy.special import ndtr

        if self._is_binary:
            at = np.arange(len(self._table)).reshape(-1, *[1] * (sums.ndim - 1))
            return np.asarray(self._table[at, np.rint(sums).astype(np.int64)])
        shape = (-1, *[1] * (sums.ndim - 1))
        return np.asarray(ndtr(-(sums - self._mean.reshape(shape)) / self._deviation.reshape(shape)))

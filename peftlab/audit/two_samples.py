"""A classifier two-sample test: can the vectors of two tables be told apart?"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def told_apart(
    before: NDArray[np.float64], after: NDArray[np.float64], generator: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A logistic regression learns on one half of both tables which a row is from, and is asked of the other half.

    Lopez-Paz and Oquab (ICLR 2017). Both tables get as many rows, so that chance is right in one half of the answers,
    and the answers of the second half are independent: the binomial test holds.

    Args:
        before: Vectors of the first table (rows × size), no row twice.
        after: Vectors of the second.
        generator: Draws the halves.

    Returns:
        Whether each answer is right (1 or 0; first the rows of ``before``), and for each row of ``after`` the
        probability that it is from there; NaN for rows that were learnt from or left out.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    count = min(len(before), len(after)) // 2
    first, second = generator.permutation(len(before)), generator.permutation(len(after))
    learnt = np.concatenate([before[first[:count]], after[second[:count]]])
    asked = np.concatenate([before[first[count : 2 * count]], after[second[count : 2 * count]]])
    origin = np.repeat([0, 1], count)
    # Vectors have about as many numbers as there are rows: without a strong penalty little can be learnt.
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=500)).fit(learnt, origin)
    probabilities = model.predict_proba(asked)[:, 1]
    sure = np.full(len(after), np.nan)
    sure[second[count : 2 * count]] = probabilities[count:]
    return ((probabilities > 0.5) == origin).astype(np.float64), sure

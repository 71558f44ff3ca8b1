"""Labels that are probably wrong, by confident learning."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def suspected_labels(labels: NDArray[np.int64], probabilities: NDArray[np.float64]) -> NDArray[np.int64]:
    """Rows of which another class is likelier than what is usual for that class, the most suspicious first.

    Confident learning (Northcutt et al., Journal of Artificial Intelligence Research 70, 2021): a class is likely for a
    row where its probability reaches the mean that rows with that label have. A row is suspected if the likeliest such
    class is not its label, nor its label the likeliest of all. The order is by the label's probability less the highest
    of the others.

    Args:
        labels: The given classes (rows).
        probabilities: Of a model that was not trained on these rows (rows × classes).

    Returns:
        Positions of the suspected rows.
    """
    rows, classes = probabilities.shape
    usual = np.full(classes, np.inf)
    for at in np.unique(labels):
        usual[at] = probabilities[labels == at, at].mean()
    # As in cleanlab, equal numbers count as reached in spite of rounding.
    likely = np.where(probabilities >= usual - 1e-6, probabilities, -np.inf)
    best = likely.argmax(axis=1)
    is_suspected = np.isfinite(likely.max(axis=1)) & (best != labels) & (probabilities.argmax(axis=1) != labels)
    others = probabilities.copy()
    others[np.arange(rows), labels] = -np.inf
    margins = probabilities[np.arange(rows), labels] - others.max(axis=1)
    suspected = is_suspected.nonzero()[0]
    return np.asarray(suspected[np.argsort(margins[suspected], kind="stable")])

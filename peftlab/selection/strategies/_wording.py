"""Words that several strategies use in their reasons."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def torn_between(probabilities: NDArray[np.float64], classes: Sequence[str]) -> str:
    """The two likeliest classes of a text, with their probabilities."""
    first, second = np.argsort(-probabilities, kind="stable")[:2]
    return f"{classes[first]} {probabilities[first]:.2f} or {classes[second]} {probabilities[second]:.2f}"

"""Metrics of retrieval in both directions: of each pair the rank of the image's text is known, and of the text's image.

As label stand the two ranks that they should have, 1 and 1, and as prediction those that they have: first the text's
among all texts, then the image's among all images.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from peftlab.core.metric import METRICS, Metric, Unit

if TYPE_CHECKING:
    from numpy.typing import NDArray

TEXT, IMAGE = 0, 1
"""Places of a pair's two ranks."""


class _OfRanks(Metric):
    higher_is_better: ClassVar[bool] = True
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    unit: ClassVar[Unit] = "share"


class _Recall(_OfRanks):
    place: ClassVar[int] = TEXT
    depth: ClassVar[int] = 1

    @classmethod
    def per_example(cls, labels: Sequence[Any], predictions: Sequence[Any]) -> NDArray[np.float64]:
        """1 for a pair where the rank is deep enough."""
        return (_ranks(predictions)[:, cls.place] <= cls.depth).astype(np.float64)


@METRICS.register("two_way_mrr")
class TwoWayMrr(_OfRanks):
    """Mean of 1 ÷ the rank of an image's text, and of 1 ÷ the rank of a text's image."""

    @classmethod
    def per_example(cls, labels: Sequence[Any], predictions: Sequence[Any]) -> NDArray[np.float64]:
        """The mean of a pair's two values."""
        return np.asarray((1 / _ranks(predictions)).mean(axis=1))


@METRICS.register("image_to_text_recall_at_1")
class ImageToTextRecallAt1(_Recall):
    """Share of the images whose own text is the nearest of all texts."""


@METRICS.register("image_to_text_recall_at_5")
class ImageToTextRecallAt5(_Recall):
    """Share of the images whose own text is among the five nearest."""

    depth: ClassVar[int] = 5


@METRICS.register("image_to_text_recall_at_10")
class ImageToTextRecallAt10(_Recall):
    """Share of the images whose own text is among the ten nearest."""

    depth: ClassVar[int] = 10


@METRICS.register("text_to_image_recall_at_1")
class TextToImageRecallAt1(_Recall):
    """Share of the texts whose own image is the nearest of all images."""

    place: ClassVar[int] = IMAGE


@METRICS.register("text_to_image_recall_at_5")
class TextToImageRecallAt5(_Recall):
    """Share of the texts whose own image is among the five nearest."""

    place: ClassVar[int] = IMAGE
    depth: ClassVar[int] = 5


@METRICS.register("text_to_image_recall_at_10")
class TextToImageRecallAt10(_Recall):
    """Share of the texts whose own image is among the ten nearest."""

    place: ClassVar[int] = IMAGE
    depth: ClassVar[int] = 10


def _ranks(predictions: Sequence[Any]) -> NDArray[np.float64]:
    """Pairs × 2."""
    return np.asarray([list(ranks) for ranks in predictions], dtype=np.float64).reshape(-1, 2)

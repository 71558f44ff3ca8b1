"""Metrics of language models: of the loss, and of what they write."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

from peftlab.core.metric import METRICS, Metric, Unit
from peftlab.statistics import texts
from peftlab.statistics.crossed import Floats


@METRICS.register("loss")
class Loss(Metric):
    """Mean cross-entropy per predicted token, in nats."""

    higher_is_better: ClassVar[bool] = False
    range: ClassVar[tuple[float, float]] = (0.0, math.inf)
    unit: ClassVar[Unit] = "nats"


class _Perplexity(Metric):
    """A perplexity, lower is better."""

    higher_is_better: ClassVar[bool] = False
    range: ClassVar[tuple[float, float]] = (1.0, math.inf)


@METRICS.register("perplexity")
class Perplexity(_Perplexity):
    """Exponential of the mean loss per token."""


@METRICS.register("perplexity_low")
class PerplexityLow(_Perplexity):
    """Lower end of perplexity's 95 % interval, over blocks of text."""


@METRICS.register("perplexity_high")
class PerplexityHigh(_Perplexity):
    """Upper end of that interval."""


class _OfTexts(Metric):
    """A share of what was written, higher is better."""

    higher_is_better: ClassVar[bool] = True
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    unit: ClassVar[Unit] = "share"
    of_texts: ClassVar[texts.OfTexts | None] = None

    @classmethod
    def per_example(cls, labels: Sequence[Any], predictions: Sequence[Any]) -> Floats | None:
        """A value for each text, where labels are lists of references."""
        if cls.of_texts is None or not isinstance(predictions[0], str) or not isinstance(labels[0], list):
            return None
        return cls.of_texts(predictions, labels)


@METRICS.register("exact_match")
class ExactMatch(_OfTexts):
    """Share of written texts that equal a reference."""

    of_texts = texts.OF_TEXTS["exact_match"]


@METRICS.register("rouge_1")
class Rouge1(_OfTexts):
    """F1 of words shared with the nearest reference."""

    of_texts = texts.OF_TEXTS["rouge_1"]


@METRICS.register("rouge_2")
class Rouge2(_OfTexts):
    """F1 of pairs of words shared with the nearest reference."""

    of_texts = texts.OF_TEXTS["rouge_2"]


@METRICS.register("rouge_l")
class RougeL(_OfTexts):
    """F1 of the longest common subsequence with the nearest reference."""

    of_texts = texts.OF_TEXTS["rouge_l"]


@METRICS.register("distinct_1")
class Distinct1(_OfTexts):
    """Different words as a share of all words written."""


@METRICS.register("distinct_2")
class Distinct2(_OfTexts):
    """Different pairs of words as a share of all pairs written."""


class _Percent(Metric):
    """A score from 0 to 100, higher is better."""

    higher_is_better: ClassVar[bool] = True
    range: ClassVar[tuple[float, float]] = (0.0, 100.0)
    unit: ClassVar[Unit] = "percent"


@METRICS.register("bleu")
class Bleu(_Percent):
    """BLEU of sacrebleu, 0 to 100, against all references."""


@METRICS.register("chrf")
class Chrf(_Percent):
    """F-score of character n-grams: chrF of sacrebleu, 0 to 100."""

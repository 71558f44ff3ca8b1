"""The values that a metric can take at all: no interval reaches beyond them."""

from __future__ import annotations

import math
from collections.abc import Mapping

SHARE, CORRELATION = (0.0, 1.0), (-1.0, 1.0)
_PERCENT, _AMOUNT = (0.0, 100.0), (0.0, math.inf)
RANGES: Mapping[str, tuple[float, float]] = {
    **dict.fromkeys(("accuracy", "macro_f1", "weighted_f1", "micro_f1", "auroc", "f1", "precision", "recall"), SHARE),
    **dict.fromkeys(("exact_match", "rouge_1", "rouge_2", "rouge_l", "distinct_1", "distinct_2"), SHARE),
    **dict.fromkeys(("step_exact_match", "run_exact_match", "survived_fraction"), SHARE),
    **dict.fromkeys(("bleu", "chrf"), _PERCENT),
    **dict.fromkeys(("matthews", "pearson", "spearman"), CORRELATION),
    **dict.fromkeys(("mean_squared_error", "mean_absolute_error", "loss", "steps_survived"), _AMOUNT),
    **dict.fromkeys(("perplexity", "perplexity_low", "perplexity_high"), (1.0, math.inf)),
}


def within_range(metric: str, low: float, high: float) -> tuple[float, float]:
    """Both ends of an interval, cut where the metric's values end. An interval of values that occur covers as before.

    Args:
        metric: Its name; one that is not known has no ends.
        low: Lower end of the interval.
        high: Upper end.
    """
    least, most = RANGES.get(metric, (-math.inf, math.inf))
    return max(low, least), min(high, most)


def possible_difference(metric: str) -> float:
    """How far two values of a metric can lie apart."""
    least, most = RANGES.get(metric, (-math.inf, math.inf))
    return most - least

"""Where a class has so few examples that an interval over the examples is too narrow: one sentence, wherever it shows.

Both figures are counted by ``benchmarks/statistics/rare_classes.py``.
"""

from __future__ import annotations

from collections.abc import Mapping

from peftlab.core.amounts import plural
from peftlab.core.metric import METRICS

RARE = (
    "of simulated 95 % intervals, 90 % held with about 5 examples of the rarest of two or three classes, 66 to 80 % "
    "with 2 or 3."
)
MANY_CLASSES = 10
"""Of so many none counts enough to matter."""


def rare_class_note(metric: str, counts: Mapping[str, int], where: str) -> str:
    """What a reader of a metric's interval must know of the rarest class.

    Args:
        metric: Its name.
        counts: Examples of each class that is there.
        where: What they are examples of: ``the test split``.

    Returns:
        Empty where the interval holds, or where the metric does not suffer from rare classes.
    """
    fewest = METRICS[metric].fewest_of_class if metric in METRICS else 0
    if not fewest or not 0 < len(counts) < MANY_CLASSES:
        return ""
    name, count = min(counts.items(), key=lambda item: item[1])
    if count >= fewest:
        return ""
    return (
        f"The class {name} has {plural(count, 'example')} in {where}. With fewer than {fewest} of a class, intervals "
        f"of {metric} are too narrow: {RARE}"
    )

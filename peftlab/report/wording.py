"""Figures and short sentences for people: one spelling for every format."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from peftlab.core import amounts
from peftlab.core.metric import METRICS

NONE = "–"


def is_share(metric: str) -> bool:
    """Whether a metric goes from 0 to 1, and is shown in percent."""
    return _unit(metric) == "share"


def _unit(metric: str) -> str:
    """What is not known here is shown as it is; it is never ranked."""
    return METRICS[metric].unit if metric in METRICS else "number"


def lower_is_better(metric: str) -> bool:
    """Whether smaller values of a metric are better."""
    return not METRICS[metric].higher_is_better


def point_size(metric: str) -> float:
    """What ``--max-loss 1`` means: a percentage point, a hundredth of a correlation, one unit of all else."""
    return 0.01 if _unit(metric) in ("share", "correlation") else 1.0


def is_bounded(metric: str) -> bool:
    """Whether a metric has a least and a greatest value."""
    return metric in METRICS and all(map(math.isfinite, METRICS[metric].range))


def near(metric: str, best: float) -> float:
    """How far behind the best a score hardly matters: one point, or 1 % where a metric has no greatest value."""
    return point_size(metric) if is_bounded(metric) else 0.01 * abs(best)


def score(value: float | None, metric: str, *, unit: bool = True) -> str:
    """A score: ``78.4 %``, or with four digits where it is no share."""
    if value is None or not math.isfinite(value):
        return NONE
    if is_share(metric):
        return f"{100 * value:.1f}" + (" %" if unit else "")
    return f"{value:.4g}"


def points(value: float | None, metric: str) -> str:
    """A difference of scores, with its sign: ``−0.8``."""
    if value is None or not math.isfinite(value):
        return NONE
    scaled = value / point_size(metric)
    return amount(scaled, metric, ".1f" if abs(scaled) >= 10 else ".2f", sign="+")


def amount(points: float, metric: str, form: str = ".2f", *, sign: str = "") -> str:
    """A number of points; three digits where a metric has no greatest value, since two decimals may be none of them."""
    return f"{points:{sign}{form if is_bounded(metric) else '.3g'}}".replace("-", "−")


def unit_of_points(metric: str) -> str:
    """What differences of a metric are counted in."""
    if is_share(metric):
        return "percentage points"
    return metric if point_size(metric) == 1 else "hundredths"


def size(value: float | None) -> str:
    """Bytes in powers of ten: ``311 MB``."""
    return NONE if value is None else amounts.short_size(value)


def seconds(value: float | None) -> str:
    """A time: ``42 s``, ``3 min 05 s``, ``2 h 10 min``."""
    return NONE if value is None else amounts.duration(value)


def count(value: float | None) -> str:
    """A large number: ``508 k``, ``1.24 M``."""
    if value is None:
        return NONE
    for unit in ("", " k", " M", " G"):
        if value < 999.5:
            return f"{value:.0f}{unit}" if value >= 100 or not unit else f"{value:.3g}{unit}"
        value /= 1000
    return f"{value:.3g} T"


def rate(value: float | None) -> str:
    """Tokens per second: ``1,433``."""
    return NONE if value is None else f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def share(value: float | None) -> str:
    """A share as a whole percentage."""
    return NONE if value is None else f"{100 * value:.0f} %"


def p_value(value: float | None) -> str:
    """A p-value: ``0.013``, ``< 0.001``."""
    if value is None or math.isnan(value):
        return NONE
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def tied(text: str) -> str:
    """The text with spaces at which no line breaks, between a number and its unit."""
    return re.sub(r"(\d) (?=(?:%|bytes|[kMGT]?B|[kMGT]|h|min|s|points?)(?!\w))", "\\1\N{NO-BREAK SPACE}", text)


def listing(names: Sequence[str], most: int = 6) -> str:
    """Names in a sentence: ``a, b and c``; the rest of a long list is counted."""
    if len(names) > most:
        return f"{', '.join(names[: most - 1])} and {len(names) - most + 1} more"
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)

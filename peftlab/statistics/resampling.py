"""Values whose mean is a metric, for metrics that are no means: by leaving out some examples at a time."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence

import numpy as np

from peftlab.statistics.crossed import Floats

MOST_GROUPS = 40
"""More groups make the variance hardly surer, and each costs a computation of the metrics."""
FEW_UNITS = 2 * MOST_GROUPS
"""Up to so many units, each is a group of its own: groups of one and of two would be too unequal."""

ComputeMetrics = Callable[[Sequence[int]], Mapping[str, float]]
"""The metrics of some of the examples, by their positions."""


def group_values(compute: ComputeMetrics, units: Sequence[Hashable]) -> dict[str, Floats]:
    """Pseudo-values of the delete-a-group jackknife, one for each group of examples.

    With G groups they are G·θ − (G − 1)·θ₍₋g₎ (Quenouille, Biometrika 43, 1956; for groups Shao and Tu, The Jackknife
    and Bootstrap, 1995, section 2.3), shifted so that their mean is the metric itself, as in ``pseudo_values.py``.

    Args:
        compute: The metrics of some of the examples.
        units: Of each example, what it belongs to; examples of one unit are left out together.

    Returns:
        By metric; those that are undefined without some group are left out. Empty with fewer than two units.
    """
    names = sorted(set(units), key=str)
    if len(names) < 2:
        return {}
    count = len(names) if len(names) <= FEW_UNITS else MOST_GROUPS
    order = np.random.default_rng(0).permutation(len(names))
    group_of = {names[at]: number % count for number, at in enumerate(order.tolist())}
    groups = np.array([group_of[unit] for unit in units])
    whole = compute(range(len(units)))
    without = [compute(np.flatnonzero(groups != group).tolist()) for group in range(count)]
    found = {}
    for metric, value in whole.items():
        if all(metric in part for part in without):
            values = count * value - (count - 1) * np.array([part[metric] for part in without], dtype=np.float64)
            if np.isfinite(values).all():
                found[metric] = np.asarray(values - values.mean() + value)
    return found

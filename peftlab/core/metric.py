"""What is known of a metric: the one place that says which direction is better, and what its values can be."""

from __future__ import annotations

import inspect
import math
import reprlib
from abc import ABC
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from peftlab.core.errors import ConfigError, PluginError
from peftlab.core.registry import Registry

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Unit = Literal["share", "correlation", "percent", "nats", "steps", "target", "number"]
"""``share``: 0 to 1, shown in percent; ``target``: whatever the regression's targets are in, or its square."""


class Metric(ABC):
    """A metric. The docstring's first line is what ``peftlab ls metrics`` shows.

    A metric that a task computes itself only states its facts. One that comes from elsewhere has ``score`` too, and
    names the ``tasks`` whose recipes may ask for it by ``evaluation.metric``.
    """

    registered_name: ClassVar[str]
    higher_is_better: ClassVar[bool]
    """Every metric says so: there is no default that could be wrong in silence."""
    range: ClassVar[tuple[float, float]] = (-math.inf, math.inf)
    """The least and the greatest value that it can have: no interval goes beyond them."""
    unit: ClassVar[Unit] = "number"
    fewest_of_class: ClassVar[int] = 0
    """With fewer test examples of a class, intervals over the examples are too narrow, and the report says so."""
    tasks: ClassVar[tuple[str, ...]] = ()
    """Names of the tasks that it is computed for from labels and predictions, beside their own metrics."""

    def __init_subclass__(cls, **options: Any) -> None:
        """Refuse a metric that does not say which direction is better.

        Raises:
            ConfigError: It doesn't, or its range is none.
        """
        super().__init_subclass__(**options)
        if inspect.isabstract(cls):
            return
        if not isinstance(getattr(cls, "higher_is_better", None), bool):
            raise ConfigError(
                f"the metric {cls.__name__} does not say whether higher is better",
                where=f"{cls.__module__}.{cls.__qualname__}",
                hint="Set `higher_is_better = True` or `False` in the class.",
            )
        least, greatest = cls.range
        if not least < greatest:
            raise ConfigError(f"the metric {cls.__name__} has no values between {least} and {greatest}")

    @classmethod
    def per_example(cls, labels: Sequence[Any], predictions: Sequence[Any]) -> NDArray[np.float64] | None:
        """One value an example whose mean is the metric: what intervals over examples and paired tests work on.

        Args:
            labels: What is right for each example, as in ``predictions.parquet``.
            predictions: What was predicted, in the same form.

        Returns:
            None where there are no such values.
        """
        return None

    @classmethod
    def score(cls, labels: Sequence[Any], predictions: Sequence[Any]) -> float | None:
        """The metric over all examples, for one that no task computes itself: by default the mean of ``per_example``.

        Returns:
            None where it is not defined on these examples.

        Raises:
            PluginError: ``per_example`` does not give one number an example.
        """
        values = cls.per_example(labels, predictions)
        if values is None:
            return None
        if getattr(values, "shape", None) != (len(labels),):
            raise PluginError(
                f"per_example of the metric `{cls.registered_name}` has given {reprlib.repr(values)} for {len(labels)} "
                "examples",
                hint="Give an array of one number an example: np.array([…], np.float64).",
            )
        return float(values.mean())


METRICS: Registry[Metric] = Registry(
    "metric", package="peftlab.metrics", entry_point_group="peftlab.metrics", base=Metric, also_from=("peftlab.tasks",)
)


def within_range(metric: str, low: float, high: float) -> tuple[float, float]:
    """Both ends of an interval, cut where the metric's values end. An interval of values that occur covers as before.

    Args:
        metric: Its name.
        low: Lower end of the interval.
        high: Upper end.
    """
    least, most = METRICS[metric].range
    return max(low, least), min(high, most)


def possible_difference(metric: str) -> float:
    """How far two values of a metric can lie apart."""
    least, most = METRICS[metric].range
    return most - least


def may_be_negative(metric: str) -> bool:
    """Whether a metric has values below 0, so that zeros and ones of a sample are no shares."""
    return METRICS[metric].range[0] < 0


def signed(metric: str, value: float) -> float:
    """The value, so that higher is better."""
    return value if METRICS[metric].higher_is_better else -value

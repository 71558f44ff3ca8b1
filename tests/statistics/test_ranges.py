"""No interval goes beyond the values that its metric can take."""

import math

import pytest

from peftlab.measurement.example_intervals import example_intervals
from peftlab.statistics.ranges import RANGES, within_range
from peftlab.tasks.metrics import METRICS


def test_every_metric_has_a_range() -> None:
    assert set(RANGES) == set(METRICS)


def test_an_unknown_metric_has_no_ends() -> None:
    assert within_range("of_a_plugin", -3.0, 1e9) == (-3.0, 1e9)
    assert within_range("mean_squared_error", -3.0, 1e9) == (0.0, 1e9)
    assert RANGES["mean_squared_error"][1] == math.inf


@pytest.mark.parametrize("metric", ["macro_f1", "weighted_f1", "matthews"])
def test_three_examples_do_not_lead_beyond_the_metric(metric: str) -> None:
    found = example_intervals([metric], ["bad", "good", "fine"], ["bad", "good", "good"])[metric]
    assert found is not None
    low, high = found
    least, most = RANGES[metric]
    assert least <= low < high <= most

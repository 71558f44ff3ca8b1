"""The metrics of built-in tasks are where reports find them, which load no task."""

from __future__ import annotations

import pytest

from peftlab.core.metric import METRICS
from peftlab.core.task import TASKS


@pytest.mark.parametrize("name", [name for name, task in TASKS.items() if task.__module__.startswith("peftlab.")])
def test_a_report_knows_the_metrics_of_a_task_without_loading_it(name: str) -> None:
    assert all(METRICS[metric].__module__.startswith("peftlab.metrics.") for metric in TASKS[name].metrics)

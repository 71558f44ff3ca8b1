"""Metrics of Turing machines."""

from __future__ import annotations

import math
from typing import ClassVar

from peftlab.core.metric import METRICS, Metric, Unit


class _Share(Metric):
    """A share, higher is better."""

    higher_is_better: ClassVar[bool] = True
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    unit: ClassVar[Unit] = "share"


@METRICS.register("step_exact_match")
class StepExactMatch(_Share):
    """Share of a machine's steps that are written right, given the right configuration before."""


@METRICS.register("run_exact_match")
class RunExactMatch(_Share):
    """Share of runs that are right to the end when the model goes on from what it wrote itself."""


@METRICS.register("survived_fraction")
class SurvivedFraction(_Share):
    """Steps before the first error of a run, as a share of the run's steps."""


@METRICS.register("steps_survived")
class StepsSurvived(Metric):
    """Steps before the first error of a run, on average."""

    higher_is_better: ClassVar[bool] = True
    range: ClassVar[tuple[float, float]] = (0.0, math.inf)
    unit: ClassVar[Unit] = "steps"

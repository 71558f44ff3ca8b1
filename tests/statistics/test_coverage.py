"""Do the intervals cover and the tests keep their level? Exactly for normal scores; by simulation for right and wrong.

The simulation is a smaller one of ``benchmarks/statistics/simulate.py``, whose committed table is checked too.
"""

from __future__ import annotations

import csv
import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from peftlab.statistics.crossed import VarianceOfMean, variance_of_mean
from peftlab.statistics.intervals import half_width, mean_interval

pytestmark = pytest.mark.slow

FOLDER = Path(__file__).parents[2] / "benchmarks" / "statistics"
REPETITIONS = 800
# Monte-Carlo tolerance: 3.5 standard errors, of the bound itself, of one cell.
TOLERANCE = 3.5


def margin(share, repetitions):
    return TOLERANCE * (share * (1 - share) / repetitions) ** 0.5


@pytest.fixture(scope="module")
def simulate():
    spec = importlib.util.spec_from_file_location("coverage_simulation", FOLDER / "simulate.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.fixture(scope="module")
def rows(simulate):
    cells = [
        simulate.Cell(accuracy, points, examples)
        for accuracy in (0.6, 0.9)
        for points in (0.1, 0.5, 2.0)
        for examples in (300, 1000)
    ]
    return [row for cell in cells for row in simulate.simulate(cell, (3, 5, 10), REPETITIONS, seed=7)]


def coverage_of_normal_scores(half, seeds, share):
    """By quadrature: the seeds' part is estimated with S − 1 degrees of freedom, the examples' part is known."""
    chi = stats.chi2.ppf((np.arange(20_000) + 0.5) / 20_000, seeds - 1) / (seeds - 1)
    parts = VarianceOfMean(np.zeros_like(chi), share * chi, np.full_like(chi, 1 - share), seeds - 1, 10**6)
    return np.mean(2 * stats.norm.cdf(half(parts, 0.95)) - 1)


@pytest.mark.parametrize("seeds", [3, 5, 10])
@pytest.mark.parametrize("share", [0.001, 0.01, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.999])
def test_normal_scores_for_every_share_of_the_seeds(seeds, share) -> None:
    assert 0.94 <= coverage_of_normal_scores(half_width, seeds, share) <= 0.965


def test_the_interval_covers(rows) -> None:
    for row in rows:
        assert row["coverage"] >= 0.93 - margin(0.93, REPETITIONS), row
        assert row["coverage"] <= 0.97 + margin(0.97, REPETITIONS), row
    for seeds in (3, 5, 10):
        pooled = np.mean([row["coverage"] for row in rows if row["seeds"] == seeds])
        assert 0.94 <= pooled <= 0.97


def test_equal_methods_seldom_differ(rows) -> None:
    for row in rows:
        assert row["false_alarms"] <= 0.05 + margin(0.05, REPETITIONS), row
    assert np.mean([row["false_alarms"] for row in rows]) <= 0.05


def test_the_usual_ways_do_not(rows) -> None:
    """So the bounds above can fail: over the seeds alone neither interval covers, and both tests are false alarms."""
    for seeds in (3, 5, 10):
        mine = [row for row in rows if row["seeds"] == seeds]
        assert min(row["coverage_bootstrap_over_seeds"] for row in mine) < 0.5
        assert min(row["coverage_t_over_seeds"] for row in mine) < 0.8
        assert max(row["false_alarms_bootstrap_over_seeds"] for row in mine) > 0.15
        assert max(row["false_alarms_t_over_seeds"] for row in mine) > 0.08


def test_the_simulation_is_what_was_asked_for(simulate) -> None:
    """Accuracy, spread of the seeds and agreement of the outcomes, from many seeds on many examples."""
    cell = simulate.Cell(0.75, 2.0, 20_000)
    first, second = next(iter(simulate.batches(cell, 400, 1, np.random.default_rng(0))))
    per_seed = first[0].mean(axis=1)
    assert per_seed.mean() == pytest.approx(0.75, abs=0.015)
    assert per_seed.std(ddof=1) == pytest.approx(0.02, rel=0.15)
    assert 0.86 <= (first[0, 0] == first[0, 1]).mean() <= 0.93
    assert 0.8 <= (first[0, 0] == second[0, 0]).mean() <= 0.91


def test_many_tables_at_once_are_the_public_function(simulate) -> None:
    first, _ = next(iter(simulate.batches(simulate.Cell(0.9, 1.0, 300), 3, 20, np.random.default_rng(1))))
    half = half_width(variance_of_mean(first), 0.95)
    for at in range(20):
        interval = mean_interval(first[at])
        assert interval.mean - interval.low == pytest.approx(half[at])


def test_the_committed_table(simulate) -> None:
    with (FOLDER / "coverage.csv").open(encoding="utf-8") as file:
        table = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
    assert len(table) == len(simulate.grid()) * 3
    assert (FOLDER / "coverage.md").read_text(encoding="utf-8") == simulate.table(table)
    for row in table:
        assert 0.93 <= row["coverage"] <= 0.97, row
        assert row["false_alarms"] <= 0.05 + margin(0.05, row["repetitions"]), row


def test_a_row_of_the_committed_table_comes_out_again(simulate) -> None:
    with (FOLDER / "coverage.csv").open(encoding="utf-8") as file:
        stored = {key: float(value) for key, value in next(csv.DictReader(file)).items()}
    cell = simulate.Cell(stored["accuracy"], stored["seed_sd_points"], int(stored["examples"]))
    found = simulate.simulate(cell, simulate.SEEDS, int(stored["repetitions"]), seed=20)[0]
    assert found == pytest.approx(stored, abs=2e-3)

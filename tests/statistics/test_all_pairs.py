"""False alarms and true differences over all pairs of a comparison: a small simulation, and the committed table."""

from __future__ import annotations

import csv
import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.slow

FOLDER = Path(__file__).parents[2] / "benchmarks" / "statistics"
REPETITIONS = 60
# Monte-Carlo tolerance: 3.5 standard errors of independent comparisons; pairs of one comparison add little.
TOLERANCE = 3.5


def margin(share, repetitions):
    return TOLERANCE * (share * (1 - share) / repetitions) ** 0.5


@pytest.fixture(scope="module")
def all_pairs():
    sys.path.insert(0, str(FOLDER))
    try:
        yield importlib.import_module("all_pairs")
    finally:
        sys.path.remove(str(FOLDER))
        for name in ("all_pairs", "simulate"):
            sys.modules.pop(name, None)


@pytest.mark.parametrize("spread", ["1", "log-normal", "one noisy", "every other noisy"])
def test_equal_methods_seldom_differ(all_pairs, spread) -> None:
    for row in all_pairs.simulate(all_pairs.Truth(spread, True, 1000), REPETITIONS, seed=3):
        assert float(row["false_alarms"]) <= 0.05 + margin(0.05, REPETITIONS), row
        assert float(row["any_after_holm"]) <= 0.05 + margin(0.05, REPETITIONS), row


def test_more_is_found_than_by_each_pair_alone(all_pairs) -> None:
    rows = all_pairs.simulate(all_pairs.Truth("1", False, 2000), 20, seed=3)
    few_seeds = next(row for row in rows if row["methods"] == "12" and row["seeds"] == "3")
    assert float(few_seeds["found_10"]) >= 0.8
    assert float(few_seeds["found_10"]) >= float(few_seeds["alone_found_10"]) + 0.3


def test_each_pair_alone_is_what_it_is_called(all_pairs) -> None:
    """A paired t test over the seeds, where only seeds vary."""
    from scipy import stats

    generator = np.random.default_rng(0)
    per_seed = generator.normal(size=(4, 3))
    apart = all_pairs.test_of_each_pair(np.repeat(per_seed[:, :, None], 50, axis=2))
    expected = [stats.ttest_rel(per_seed[a], per_seed[b]).pvalue for a in range(4) for b in range(a + 1, 4)]
    for level in (0.05, 0.3, 0.6):
        assert apart(level).tolist() == [p_value < level for p_value in expected]


def test_the_committed_table_of_all_pairs(all_pairs) -> None:
    with (FOLDER / "all_pairs.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(all_pairs.grid()) * len(all_pairs.METHODS) * len(all_pairs.SEEDS)
    assert (FOLDER / "all_pairs.md").read_text(encoding="utf-8") == all_pairs.table(rows)
    for row in rows:
        if row["equal"] == "True":
            repetitions = int(row["repetitions"])
            assert float(row["false_alarms"]) <= 0.05 + margin(0.05, repetitions), row
            assert float(row["any_after_holm"]) <= 0.05 + margin(0.05, repetitions), row

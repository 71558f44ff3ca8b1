"""Methods with one seed: the committed table, a small simulation, and the prior's limits."""

from __future__ import annotations

import csv
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from peftlab.statistics.one_seed import SeedPrior
from peftlab.statistics.pairs import compare_all

FOLDER = Path(__file__).parents[2] / "benchmarks" / "statistics"
PRIOR = SeedPrior(0.01)


@pytest.fixture(scope="module")
def one_seed() -> Iterator[ModuleType]:
    sys.path.insert(0, str(FOLDER))
    try:
        yield importlib.import_module("one_seed")
    finally:
        sys.path.remove(str(FOLDER))
        for name in ("one_seed", "all_pairs", "simulate"):
            sys.modules.pop(name, None)


def test_the_committed_table(one_seed: ModuleType) -> None:
    with (FOLDER / "one_seed.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert (FOLDER / "one_seed.md").read_text(encoding="utf-8") == one_seed.table(rows, rows[0]["spreads"].split())
    alarms = {(row["suite"], row["spread"], row["methods"], row["prior"]): row["any_after_holm"] for row in rows}
    assert one_seed.PRIORS["1 point, 4"] == PRIOR
    for (suite, spread, _, prior), share in alarms.items():
        if prior == "1 point, 4" and spread in ("0.2", "0.5", "1", "log-normal"):
            assert float(share) <= 0.05, (suite, spread)
    assert float(alarms["one seed", "1", "12", "none"]) > 0.7


@pytest.mark.parametrize("suite", ["one seed", "every second one three seeds"])
def test_equal_methods_seldom_differ(one_seed: ModuleType, suite: str) -> None:
    """Within 3.5 Monte-Carlo standard errors of 5 %; over the examples alone it is far above that."""
    for row in one_seed.simulate("1", suite, 20, seed=1):
        if row["prior"] == "1 point, 4":
            assert float(row["any_after_holm"]) <= 0.05 + 3.5 * (0.05 * 0.95 / 20) ** 0.5, row


def test_a_prior_widens_pairs_of_one_seed_and_no_others() -> None:
    generator = np.random.default_rng(0)
    scores = [(generator.random((seeds, 500)) < 0.8) * 1.0 for seeds in (3, 1, 3, 1)]
    plain, stated = compare_all(scores), compare_all(scores, prior=PRIOR)
    width, before = stated.high - stated.low, plain.high - plain.low
    assert width[0, 2] == before[0, 2]
    assert stated.p_value[0, 2] == plain.p_value[0, 2]
    assert width[1, 3] > before[1, 3]
    assert stated.p_value[1, 3] > plain.p_value[1, 3]
    assert stated.difference.tolist() == plain.difference.tolist()


def test_what_others_show_counts_where_it_is_more_than_the_prior() -> None:
    generator = np.random.default_rng(1)
    shifts = generator.normal(0, 0.1, (4, 3, 1))
    several = [(generator.random((3, 500)) < 0.7 + shift) * 1.0 for shift in shifts]
    single = (generator.random((1, 500)) < 0.7) * 1.0
    plain, stated = compare_all([*several, single]), compare_all([*several, single], prior=PRIOR)
    assert (stated.high - stated.low)[4, 0] >= (plain.high - plain.low)[4, 0]
    assert (stated.high - stated.low)[4, 0] > 0.15

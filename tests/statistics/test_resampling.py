"""Values of groups of examples: the examples' own for means, and tests that hold their level for others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import pytest

from peftlab.statistics.pairs import compare_all
from peftlab.statistics.resampling import FEW_UNITS, MOST_GROUPS, group_values


def test_of_a_mean_they_are_the_examples_own() -> None:
    values = np.random.default_rng(0).normal(size=30)
    found = group_values(lambda at: {"mean": float(values[list(at)].mean())}, range(30))
    assert sorted(found["mean"]) == pytest.approx(sorted(values))


@pytest.mark.parametrize(("units", "groups"), [(2, 2), (FEW_UNITS, FEW_UNITS), (FEW_UNITS + 1, MOST_GROUPS)])
def test_units_stay_together_and_the_mean_is_the_metric(units: int, groups: int) -> None:
    of_example = [number // 3 for number in range(3 * units)]
    values = np.random.default_rng(0).random(3 * units)

    def compute(positions: Sequence[int]) -> Mapping[str, float]:
        kept = np.bincount([of_example[at] for at in positions], minlength=units)
        assert set(kept.tolist()) <= {0, 3}
        return {"root": float(np.sqrt(values[list(positions)].mean()))}

    found = group_values(compute, of_example)
    assert len(found["root"]) == groups
    assert found["root"].mean() == pytest.approx(np.sqrt(values.mean()))


def test_one_unit_or_a_metric_that_is_not_always_there() -> None:
    assert group_values(lambda at: {"size": float(len(at))}, ["a", "a"]) == {}
    found = group_values(lambda at: {"all": 1.0} | ({"first": 1.0} if 0 in at else {}), range(5))
    assert set(found) == {"all"}


def f1_of(right: np.ndarray, said: np.ndarray, true: np.ndarray, at: Sequence[int]) -> Mapping[str, float]:
    kept = list(at)
    return {"f1": float(2 * right[kept].sum() / max(1, said[kept].sum() + true[kept].sum()))}


def test_equal_runs_are_told_apart_in_one_of_twenty_cases() -> None:
    """F1 of entities, of two runs whose answers to one in ten sentences are drawn anew."""
    random, alarms, repetitions = np.random.default_rng(0), 0, 300
    for _ in range(repetitions):
        true = random.integers(1, 4, 200)
        share = random.beta(8, 2, 200)
        runs = []
        common = random.binomial(true, share), random.poisson(0.3, 200)
        for _run in range(2):
            anew = random.random(200) < 0.1
            right = np.where(anew, random.binomial(true, share), common[0])
            wrong = np.where(anew, random.poisson(0.3, 200), common[1])
            runs.append((right, right + wrong))
        values = [group_values(partial(f1_of, right, said, true), range(200))["f1"] for right, said in runs]
        alarms += compare_all([value[None, :] for value in values]).p_value[0, 1] < 0.05
    assert 0.01 * repetitions <= alarms <= 0.09 * repetitions

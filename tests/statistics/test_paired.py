"""Paired comparisons: agreement of test and interval, sparse differences, and Holm's correction."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from peftlab.statistics.pairs import compare_paired, holm

PAIRS = st.tuples(st.integers(1, 5), st.integers(2, 25)).flatmap(
    lambda shape: st.tuples(*[arrays(np.float64, shape, elements=st.integers(0, 1).map(float))] * 2)
)
P_VALUES = st.lists(st.floats(0, 1), max_size=30)


@settings(deadline=None)
@given(PAIRS, st.sampled_from([0.9, 0.95, 0.99]))
def test_the_test_and_the_interval_agree(pair, level) -> None:
    a, b = pair
    compared = compare_paired(a, b, level)
    assert 0 <= compared.p_value <= 1
    assume(compared.low < compared.high)
    assume(abs(compared.p_value - (1 - level)) > 1e-9)
    assert (compared.p_value < 1 - level) == (compared.low > 0 or compared.high < 0)


@settings(deadline=None)
@given(PAIRS)
def test_the_other_way_round(pair) -> None:
    there, back = compare_paired(*pair), compare_paired(*pair[::-1])
    assert there.p_value == pytest.approx(back.p_value)
    assert (there.difference, there.low, there.high) == pytest.approx((-back.difference, -back.high, -back.low))


def test_differences_of_the_seeds_alone_are_a_paired_t_test() -> None:
    a = np.repeat(np.array([[0.7], [0.8], [0.6], [0.9]]), 30, axis=1)
    b = np.repeat(np.array([[0.6], [0.5], [0.5], [0.6]]), 30, axis=1)
    assert compare_paired(a, b).p_value == pytest.approx(stats.ttest_rel(a[:, 0], b[:, 0]).pvalue)


def test_a_method_against_itself() -> None:
    a = np.random.default_rng(0).integers(0, 2, (3, 100)).astype(float)
    compared = compare_paired(a, a)
    assert (compared.difference, compared.low, compared.high, compared.p_value) == (0, 0, 0, 1)


@pytest.mark.parametrize("examples", [2, 5, 300])
def test_one_is_right_everywhere_and_the_other_nowhere(examples) -> None:
    compared = compare_paired(np.ones((3, examples)), np.zeros((3, examples)))
    assert compared.p_value == pytest.approx(2 * 0.5**examples)


@pytest.mark.parametrize("differing", [*range(1, 31), 41, 100, 200])
def test_few_examples_that_differ_do_not_make_a_difference(differing) -> None:
    """Answers that no seed changes: of ``differing`` examples each is A's or B's by a coin, known exactly."""
    false_alarms = 0.0
    for of_a in range(differing + 1):
        a, b = np.zeros((3, 1000)), np.zeros((3, 1000))
        a[:, :of_a] = 1
        b[:, of_a:differing] = 1
        if compare_paired(a, b).p_value <= 0.05:
            false_alarms += stats.binom.pmf(of_a, differing, 0.5)
    # The steps of the binomial: the docstring says by how much, and from where on.
    assert false_alarms <= (0.05 if differing < 22 else 0.062)


@given(P_VALUES)
def test_holm_is_its_definition(p_values) -> None:
    """Adjusted: the smallest level at which Holm's steps reject the hypothesis."""
    adjusted = holm(p_values)
    assert len(adjusted) == len(p_values)
    ranked = sorted(range(len(p_values)), key=lambda at: p_values[at])
    for rank, at in enumerate(ranked):
        steps = [min(1.0, (len(p_values) - k) * p_values[ranked[k]]) for k in range(rank + 1)]
        assert adjusted[at] == pytest.approx(max(steps))


def test_holm_by_hand() -> None:
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])


def test_all_pairs_of_sixty_methods_take_seconds() -> None:
    scores = np.random.default_rng(1).integers(0, 2, (60, 3, 2000)).astype(float)
    start = time.process_time()
    for first in range(60):
        for second in range(first):
            compare_paired(scores[first], scores[second])
    assert time.process_time() - start < 10


@pytest.mark.parametrize(("a", "b"), [((3, 10), (3, 11)), ((3, 10), (2, 10)), ((10,), (10,)), ((3, 1), (3, 1))])
def test_what_cannot_be_paired(a, b) -> None:
    with pytest.raises(ValueError):
        compare_paired(np.zeros(a), np.zeros(b))


@pytest.mark.parametrize("p_values", [[-0.1], [1.1], [0.5, float("nan")]])
def test_what_is_no_p_value(p_values) -> None:
    with pytest.raises(ValueError):
        holm(p_values)

"""Comparisons of all pairs: agreement of tests and intervals, sparse differences, and Holm's correction."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from peftlab.statistics.one_seed import SeedPrior
from peftlab.statistics.pairs import compare_all, compare_seed_by_seed, holm

# Few methods and many, which borrow from each other; few seeds and one.
COMPARISONS = st.tuples(st.integers(2, 6), st.integers(1, 4), st.integers(2, 25)).flatmap(
    lambda shape: arrays(np.float64, shape, elements=st.integers(0, 1).map(float))
)
P_VALUES = st.lists(st.floats(0, 1), max_size=30)


@settings(deadline=None)
@given(COMPARISONS, st.sampled_from([0.9, 0.95, 0.99]))
def test_the_tests_and_the_intervals_agree(scores, level) -> None:
    table = compare_all(list(scores), level)
    assert ((table.p_value >= 0) & (table.p_value <= 1)).all()
    clear = (table.low < table.high) & (np.abs(table.p_value - (1 - level)) > 1e-6)
    assert ((table.p_value < 1 - level) == ((table.low > 0) | (table.high < 0)))[clear].all()


@pytest.mark.parametrize("examples", [2, 3, 5])
@pytest.mark.parametrize("seeds", [1, 2, 3])
def test_a_handful_of_examples_says_no_more_than_its_signs(examples: int, seeds: int) -> None:
    """All right against all wrong: no variance, and yet chance does that to equal methods often enough."""
    right, wrong = np.ones((seeds, examples)), np.zeros((seeds, examples))
    table = compare_all([right, wrong], prior=SeedPrior(0.01))
    assert table.p_value[0, 1] >= 2.0 ** (1 - examples)
    assert table.low[0, 1] <= 0 < table.high[0, 1]


def test_seeds_of_one_mean_that_err_on_other_examples_are_not_certain() -> None:
    """Neither the seeds nor the examples seem to vary, and yet 31 of 60 against 30 is nothing."""
    one, other = np.zeros((2, 60)), np.zeros((2, 60))
    one[0, :31] = one[1, 14:45] = 1
    other[0, 5:35] = other[1, 20:50] = 1
    table = compare_all([one, other])
    assert table.p_value[0, 1] > 0.5
    assert table.low[0, 1] < 0 < table.high[0, 1]


@settings(deadline=None)
@given(COMPARISONS, st.randoms())
def test_the_order_of_the_methods_does_not_matter(scores, random) -> None:
    order = list(range(len(scores)))
    random.shuffle(order)
    table, shuffled = compare_all(list(scores)), compare_all([scores[at] for at in order])
    at = np.ix_(order, order)
    for name in ("difference", "low", "high"):
        assert getattr(shuffled, name) == pytest.approx(getattr(table, name)[at], abs=1e-9)
    assert shuffled.p_value == pytest.approx(table.p_value[at], rel=1e-4)
    assert table.difference == pytest.approx(-table.difference.T)
    assert table.low == pytest.approx(-table.high.T)


def test_two_methods_whose_seeds_alone_vary_are_a_welch_test() -> None:
    a, b = np.array([0.7, 0.8, 0.6, 0.9]), np.array([0.6, 0.5, 0.58])
    table = compare_all([np.repeat(a[:, None], 30, axis=1), np.repeat(b[:, None], 30, axis=1)])
    expected = stats.ttest_ind(a, b, equal_var=False)
    interval = expected.confidence_interval(0.95)
    assert table.p_value[0, 1] == pytest.approx(expected.pvalue, rel=1e-5)
    assert (table.low[0, 1], table.high[0, 1]) == pytest.approx((interval.low, interval.high))


def test_one_seed_is_a_paired_test_over_the_examples() -> None:
    a, b = np.random.default_rng(3).normal(size=(2, 1, 40))
    table = compare_all([a, b])
    assert table.p_value[0, 1] == pytest.approx(stats.ttest_rel(a[0], b[0]).pvalue, rel=1e-5)


def test_many_methods_find_what_two_alone_do_not() -> None:
    """Two seeds apart, and a difference that only the other methods' steady seeds make believable."""
    steady = [np.repeat(np.array([[0.5], [0.51], [0.49]]) + at / 1000, 500, axis=1) for at in range(10)]
    better = np.repeat(np.array([[0.58], [0.61], [0.59]]), 500, axis=1)
    alone, together = compare_all([steady[0], better]), compare_all([*steady, better])
    assert together.p_value[0, 10] < alone.p_value[0, 1] / 10


def test_equal_methods() -> None:
    a = np.random.default_rng(0).integers(0, 2, (3, 100)).astype(float)
    for count in (1, 2, 5):
        table = compare_all([a] * count)
        assert table.difference == pytest.approx(np.zeros((count, count)))
        assert (table.p_value == 1).all()
    assert compare_all([]).p_value.shape == (0, 0)


@pytest.mark.parametrize("examples", [2, 5, 40])
def test_one_is_right_everywhere_and_the_other_nowhere(examples) -> None:
    table = compare_all([np.ones((3, examples)), np.zeros((3, examples))])
    assert table.p_value[0, 1] == pytest.approx(2 * 0.5**examples)


@pytest.mark.parametrize("differing", [*range(1, 31), 41, 100, 200])
def test_few_examples_that_differ_do_not_make_a_difference(differing) -> None:
    """Answers that no seed changes: of ``differing`` examples each is A's or B's by a coin, known exactly."""
    false_alarms = 0.0
    for of_a in range(differing + 1):
        a, b = np.zeros((3, 1000)), np.zeros((3, 1000))
        a[:, :of_a] = 1
        b[:, of_a:differing] = 1
        if compare_all([a, b]).p_value[0, 1] <= 0.05:
            false_alarms += stats.binom.pmf(of_a, differing, 0.5)
    # The steps of the binomial: the docstring says by how much, and from where on.
    assert false_alarms <= (0.05 if differing < 22 else 0.062)


def test_methods_with_different_numbers_of_seeds() -> None:
    """All seeds count, and a method with one seed is as uncertain as the others' seeds say."""
    generator = np.random.default_rng(5)
    scores = [
        (generator.random((seeds, 800)) < 0.7 + generator.normal(0, 0.05, (seeds, 1))) * 1.0
        for seeds in (5, 3, 3, 4, 2)
    ]
    table = compare_all([*scores, scores[0][:1]])
    assert table.difference[0, 1] == pytest.approx(scores[0].mean() - scores[1].mean())
    width = table.high - table.low
    of_examples_alone = compare_all([scores[0][:1], scores[1][:1]])
    assert width[5, 1] > width[0, 1]
    assert width[5, 1] > 1.5 * (of_examples_alone.high - of_examples_alone.low)[0, 1]


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


def test_all_pairs_of_three_hundred_methods_take_seconds() -> None:
    scores = np.random.default_rng(1).integers(0, 2, (300, 3, 1000)).astype(float)
    start = time.process_time()
    compare_all(list(scores))
    assert time.process_time() - start < 10


@pytest.mark.parametrize(("a", "b"), [((3, 10), (3, 11)), ((10,), (10,)), ((3, 1), (3, 1)), ((0, 10), (3, 10))])
def test_what_cannot_be_compared(a, b) -> None:
    with pytest.raises(ValueError):
        compare_all([np.zeros(a), np.zeros(b)])


@pytest.mark.parametrize("p_values", [[-0.1], [1.1], [0.5, float("nan")]])
def test_what_is_no_p_value(p_values) -> None:
    with pytest.raises(ValueError):
        holm(p_values)


def drawn(chance: np.random.Generator, gain: float, seeds: int = 6, examples: int = 300) -> list[np.ndarray]:
    """Zeros and ones of two methods; a seed's training rows help or harm both, and each seed a little by itself."""
    rows = chance.normal(0, 0.06, (seeds, 1))
    hard = chance.normal(0, 0.15, (1, examples))
    own = chance.normal(0, 0.01, (2, seeds, 1))
    rates = [np.clip(0.7 + shift + rows + hard + each, 0, 1) for shift, each in zip((0, gain), own, strict=True)]
    return [(chance.random(rate.shape) < rate).astype(float) for rate in rates]


def test_seed_by_seed_equal_methods_seldom_differ_and_more_is_found() -> None:
    chance = np.random.default_rng(5)
    alarms = [compare_seed_by_seed(drawn(chance, 0.0)).p_value[0, 1] < 0.05 for _ in range(400)]
    assert np.mean(alarms) <= 0.07
    found = [drawn(chance, 0.05) for _ in range(200)]
    power = [
        np.mean([test(scores).p_value[0, 1] < 0.05 for scores in found]) for test in (compare_seed_by_seed, compare_all)
    ]
    assert power[0] > power[1] + 0.3


def test_seed_by_seed_where_examples_are_alike_is_student_s_paired_test() -> None:
    """Each example of a seed has the seed's own score, so that only the seeds vary."""
    seeds = np.array([[0.1, 0.4, 0.35, 0.8], [0.2, 0.45, 0.5, 0.85]])
    table = compare_seed_by_seed([np.repeat(own[:, None], 50, axis=1) for own in seeds])
    expected = stats.ttest_rel(seeds[0], seeds[1])
    assert table.p_value[0, 1] == pytest.approx(expected.pvalue, rel=1e-3)
    assert table.difference[0, 1] == pytest.approx(np.mean(seeds[0] - seeds[1]))


@settings(deadline=None)
@given(COMPARISONS)
def test_seed_by_seed_the_order_of_the_methods_does_not_matter(scores) -> None:
    if scores.shape[1] < 2:
        with pytest.raises(ValueError, match="Two seeds"):
            compare_seed_by_seed(list(scores))
        return
    one, other = compare_seed_by_seed(list(scores)), compare_seed_by_seed(list(scores[::-1]))
    assert one.p_value == pytest.approx(other.p_value[::-1, ::-1])
    assert one.low == pytest.approx(other.low[::-1, ::-1])


def test_seed_by_seed_needs_the_same_seeds() -> None:
    with pytest.raises(ValueError, match="same seeds and examples"):
        compare_seed_by_seed([np.zeros((2, 5)), np.zeros((3, 5))])

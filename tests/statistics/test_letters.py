"""Groups of methods that cannot be told apart: the properties that define a compact letter display."""

from __future__ import annotations

import random
import time
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peftlab.statistics.groups import group_indistinguishable


@st.composite
def rankings(draw):
    names = [f"m{number}" for number in range(draw(st.integers(0, 12)))]
    pairs = [frozenset(pair) for pair in combinations(draw(st.permutations(names)), 2)]
    return names, set(draw(st.lists(st.sampled_from(pairs), unique=True))) if pairs else set()


def check(names, differing) -> None:
    grouping = group_indistinguishable(names, differing)
    together = {frozenset(pair) for group in grouping.groups for pair in combinations(group, 2)}
    assert together == {frozenset(pair) for pair in combinations(names, 2)} - differing
    assert {name for group in grouping.groups for name in group} == set(names)
    rank = {name: at for at, name in enumerate(names)}
    ranks = [[rank[name] for name in group] for group in grouping.groups]
    assert ranks == sorted(sorted(group) for group in ranks)
    assert not any(set(a) <= set(b) for a in ranks for b in ranks if a is not b)


@settings(max_examples=300, deadline=None)
@given(rankings())
def test_pairs_share_a_group_exactly_where_they_do_not_differ(case) -> None:
    check(*case)


@settings(max_examples=100, deadline=None)
@given(rankings())
def test_no_group_can_be_left_out(case) -> None:
    names, differing = case
    groups = group_indistinguishable(names, differing).groups
    for group in groups:
        others = [other for other in groups if other is not group]
        covered = {frozenset(pair) for other in others for pair in combinations(other, 2)}
        alone = set(group) - {name for other in others for name in other}
        assert alone or not {frozenset(pair) for pair in combinations(group, 2)} <= covered


@settings(max_examples=100, deadline=None)
@given(rankings())
def test_methods_share_a_letter_exactly_where_they_share_a_group(case) -> None:
    names, differing = case
    grouping = group_indistinguishable(names, differing)
    for one, other in combinations(names, 2):
        share = bool(set(grouping.letters[one]) & set(grouping.letters[other]))
        assert share == (frozenset((one, other)) not in differing)


@settings(deadline=None)
@given(st.lists(st.floats(0, 10), max_size=15).map(lambda scores: sorted(scores, reverse=True)))
def test_a_common_least_difference_gives_runs_of_the_ranking(scores) -> None:
    """Where methods differ by more than 1 they are told apart: the groups are the longest runs."""
    names = [f"m{at}" for at in range(len(scores))]
    differing = {
        frozenset((names[i], names[j])) for i, j in combinations(range(len(names)), 2) if scores[i] - scores[j] > 1
    }
    runs = [[k for k in range(i, len(names)) if scores[i] - scores[k] <= 1] for i in range(len(names))]
    longest = [run for i, run in enumerate(runs) if i == 0 or run[-1] > runs[i - 1][-1]]
    assert group_indistinguishable(names, differing).groups == [[names[k] for k in run] for run in longest]


def test_an_example() -> None:
    differing = {frozenset("ad"), frozenset("bd"), frozenset("ac")}
    grouping = group_indistinguishable(["a", "b", "c", "d"], differing)
    assert grouping.groups == [["a", "b"], ["b", "c"], ["c", "d"]]
    assert grouping.letters == {"a": "a", "b": "ab", "c": "bc", "d": "c"}


def test_more_groups_than_letters() -> None:
    names = [f"m{at}" for at in range(60)]
    letters = group_indistinguishable(names, {frozenset(pair) for pair in combinations(names, 2)}).letters
    assert len(set(letters.values())) == 60
    assert (letters["m0"], letters["m26"], letters["m59"]) == ("a", "a1", "h2")


@pytest.mark.parametrize("kind", ["runs", "pairwise", "random", "sparse", "none", "all"])
def test_three_hundred_methods(kind) -> None:
    """Also where the number of maximal groups is 2¹⁵⁰: each method differs from one other only."""
    names = [f"m{at}" for at in range(300)]
    chance = random.Random(0)
    tells = {
        "runs": lambda i, j: j - i > 20 + chance.random() * 5,
        "pairwise": lambda i, j: j == i + 1 and i % 2 == 0,
        "random": lambda i, j: chance.random() < 0.5,
        "sparse": lambda i, j: chance.random() < 0.05,
        "none": lambda i, j: False,
        "all": lambda i, j: True,
    }[kind]
    differing = {frozenset((names[i], names[j])) for i, j in combinations(range(300), 2) if tells(i, j)}
    start = time.process_time()
    grouping = group_indistinguishable(names, differing)
    assert time.process_time() - start < 5
    together = {frozenset(pair) for group in grouping.groups for pair in combinations(group, 2)}
    assert together == {frozenset(pair) for pair in combinations(names, 2)} - differing


@pytest.mark.parametrize(
    ("names", "differing"), [(["a", "a"], []), (["a", "b"], [frozenset("ac")]), (["a", "b"], [frozenset("a")])]
)
def test_bad_names(names, differing) -> None:
    with pytest.raises(ValueError):
        group_indistinguishable(names, differing)

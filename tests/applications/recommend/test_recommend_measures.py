"""Measures, models and estimates of the recommender, each held against another way to compute it."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import Ridge
from sklearn.metrics import ndcg_score
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.preprocessing import normalize

from peftlab.applications.recommend import evaluation
from peftlab.applications.recommend.cold import RIDGE, SHARES, TEXT_ALONE, choose_shares, cold_case, expect
from peftlab.applications.recommend.collaborative import (
    fit_collaborative,
    fit_ease,
    load_collaborative,
    write_collaborative,
)
from peftlab.applications.recommend.counterfactual import (
    chances_of,
    draw_list,
    estimate_normalized,
    estimate_plain,
    ratios_of,
)
from peftlab.applications.recommend.diversity import diverse_order, similarity_within
from peftlab.applications.recommend.history import (
    Catalogue,
    History,
    Passed,
    hidden_items,
    load_history,
    write_history,
)
from peftlab.applications.recommend.metrics import best_items, score_lists
from peftlab.applications.recommend.pairs import next_items
from peftlab.applications.recommend.ranking import FEATURES, Ranked, learn_weights, order, rank_features
from peftlab.applications.recommend.reading import history_of, seconds_of
from peftlab.applications.recommend.regularization import GRID, choose_regularization
from peftlab.applications.recommend.search import Search, build_graph, open_search
from peftlab.applications.recommend.store import Event, Store
from peftlab.applications.recommend.traits import traits_of
from peftlab.applications.recommend.vectors import history_rows, unit, user_vectors


@pytest.fixture(scope="module")
def history():
    draws = np.random.default_rng(3)
    events = [
        (f"u{user}", int(item), float(moment))
        for user in range(40)
        for moment, item in enumerate(draws.choice(45, size=draws.integers(3, 20), replace=False))
    ]
    return history_of([events[at] for at in draws.permutation(len(events))], 45)


def test_measures_agree_with_scikit_learn_and_with_counting() -> None:
    draws = np.random.default_rng(0)
    scores = draws.normal(size=(25, 30)).astype(np.float32)
    later = [draws.choice(30, size=draws.integers(0, 14), replace=False) for _ in range(25)]
    popularity = draws.integers(0, 9, size=30).astype(float)
    found = score_lists(best_items(scores, 10), later, popularity, users=12, catalogue=30)
    kept = [at for at, each in enumerate(later) if len(each)]
    relevance = np.array([[float(item in set(later[at])) for item in range(30)] for at in kept])
    for row, at in enumerate(kept):
        assert found.ndcg[row] == pytest.approx(ndcg_score(relevance[[row]], scores[[at]], k=10))
        shown = sorted(range(30), key=lambda item, at=at: -scores[at, item])[:10]
        assert found.recall[row] == len(set(shown) & set(later[at])) / len(later[at])
    shown = [item for at in kept for item in np.argsort(-scores[at])[:10]]
    assert found.coverage == len(set(shown)) / 30
    assert found.novelty == pytest.approx(np.mean([-math.log2(max(popularity[item], 0.5) / 12) for item in shown]))


@pytest.mark.parametrize("kinds", [1, 2, 5])
def test_of_equal_scores_the_first_are_taken_wherever_lists_end(kinds: int) -> None:
    scores = np.random.default_rng(0).integers(0, kinds, size=(3, 4000)).astype(np.float32)
    known = np.array([np.lexsort((np.arange(4000), -row))[:10] for row in scores])
    assert (best_items(scores, 10) == known).all()
    assert best_items(scores[:, :0], 10).shape == (3, 0)


def test_lists_leave_out_what_is_not_allowed_and_take_the_first_of_equals() -> None:
    scores = np.array([[1.0, -np.inf, 1.0, 2.0]], np.float32)
    assert best_items(scores, 3).tolist() == [[3, 0, 2]]
    assert best_items(scores, 9).tolist() == [[3, 0, 2, -1]]
    short = score_lists(np.array([[3, -1]]), [np.array([3, 1])], np.ones(4), 4, 4)
    assert short.recall.tolist() == [0.5]
    assert short.coverage == 0.25


def test_events_are_cut_by_time_and_hidden_items_are_in_no_pair(history) -> None:
    train, test = history.cut()
    for user in range(len(history.users)):
        count = len(history.of(user))
        assert len(train.of(user)) == int(count * 0.8)
        assert [*train.of(user), *test.of(user)] == list(history.of(user))
        times = history.time[history.user == user]
        assert (np.diff(times) >= 0).all()
    hidden = hidden_items(history, 0.2, 0)
    pairs = next_items(train.keep(~hidden[train.item]), 2, 50, 0)
    assert len(pairs) == 50
    assert not hidden[pairs].any()
    kept = train.keep(~hidden[train.item])
    steps = {
        (a, b) for each in kept.each() for at, a in enumerate(each.tolist()) for b in each[at + 1 : at + 3].tolist()
    }
    assert {tuple(pair) for pair in pairs.tolist()} <= steps
    own = replace(history, time=history.time + 7 * history.user)  # later users come later
    for share in (0.8, 0.5):
        train, test = own.cut_by("temporal_global", share)
        assert train.time.max() < own.moment(share) == test.time.min()
        assert len(train) + len(test) == len(own)
        assert len(train) == pytest.approx(share * len(own), abs=12)  # of one moment there are so many at most
        assert not train.is_active.all()
    assert [len(part) for part in replace(own, time=np.zeros(len(own))).cut_by("temporal_global")] == [0, len(own)]


def test_models_agree_with_other_ways_to_compute_them(history, tmp_path) -> None:
    from implicit.cpu.als import AlternatingLeastSquares

    matrix = history.matrix
    ease = fit_ease(matrix, 5.0)
    dense = matrix.toarray().astype(float)
    for item in (0, 17):  # EASE is ridge regression of each item on the others
        others = np.delete(np.arange(45), item)
        gram = dense[:, others].T @ dense[:, others] + 5 * np.eye(44)
        alone = np.linalg.solve(gram, dense[:, others].T @ dense[:, item])
        assert ease[others, item] == pytest.approx(alone, abs=1e-5)
    write_collaborative(
        tmp_path / "models.npz", fit_collaborative(history, factors=8, exact_items=40, regularization=5.0, seed=0)
    )
    models = load_collaborative(tmp_path / "models.npz")
    assert len(models.exact) == 40
    near = cosine_similarity(dense.T)
    np.fill_diagonal(near, 0)
    assert np.allclose(models.by_neighbours(matrix), dense @ near, atol=1e-4)
    peer = AlternatingLeastSquares(
        factors=8, regularization=1.0, alpha=4.0, iterations=15, random_state=0, num_threads=1
    )
    peer.fit(matrix, show_progress=False)
    assert np.allclose(models.user_factors(matrix), peer.recalculate_user(np.arange(40), matrix), atol=1e-4)
    nobody = scipy.sparse.csr_matrix((1, 45), dtype=np.float32)
    assert not models.by_factors(nobody).any()


def test_lists_of_many_users_are_made_a_few_at_a_time(history, monkeypatch: pytest.MonkeyPatch) -> None:
    models = fit_collaborative(history, factors=8, exact_items=40, regularization=5.0, seed=0)
    whole, sizes = evaluation.baseline_lists(models, history), []
    scores = models.by_factors(history.matrix)
    scores[history.matrix.nonzero()] = -np.inf
    assert np.array_equal(whole["als"], best_items(scores, 10))

    def counted(scores, size):
        sizes.append(len(scores))
        return best_items(scores, size)

    monkeypatch.setattr(evaluation, "best_items", counted)
    monkeypatch.setattr(evaluation, "USERS_AT_ONCE", 7)
    parts = evaluation.baseline_lists(models, history)
    assert sizes == [7, 7, 7, 7, 7, 5] * 4
    assert all(np.array_equal(parts[name], whole[name]) for name in whole)


def test_wishes_and_expected_popularity_are_those_of_ridge_regression(history) -> None:
    vectors = np.random.default_rng(2).normal(size=(45, 6)).astype(np.float32)
    traits = traits_of(vectors, [f"a film of {1990 + item % 5}, nr {item}" for item in range(45)])
    assert traits.words.shape == (45, 5)  # five years; the words of all items, and of one alone, tell nothing
    exact, rows = np.arange(30), traits.rows(np.arange(45))
    expected = expect(traits, history.popularity, exact)
    scores = np.random.default_rng(3).normal(size=30).astype(np.float32)
    peer = Ridge(alpha=RIDGE).fit(rows[exact], scores)
    assert np.allclose(expected.wishes @ scores, peer.coef_, atol=1e-4)
    known = history.popularity > 0
    peer = Ridge(alpha=RIDGE).fit(rows[known], np.log1p(history.popularity[known]))
    assert np.allclose(expected.popularity, peer.predict(rows), atol=1e-4)


@pytest.mark.parametrize("items", [1, 2, 3])
def test_new_items_are_ranked_where_all_are_new(items: int) -> None:
    history = history_of([(f"u{user}", item, float(item)) for user in range(20) for item in range(items)], items)
    traits = traits_of(unit(np.eye(items, 4, dtype=np.float32)), [f"item {item}" for item in range(items)])
    settings: Any = {"exact_items": 40, "regularization": 10.0}
    held = np.ones(items, bool)
    lists = cold_case(history, traits, held, unseen=held, **settings).lists((1.0, 1.0, 1.0))
    assert sorted(lists[0].tolist()) == list(range(items))
    shares, _ = choose_shares(history, traits, np.arange(items) == 1, **settings, seed=0)
    assert shares in (*SHARES, TEXT_ALONE)


def test_the_words_of_items_are_weighed_as_scikit_learn_weighs_them() -> None:
    texts = [f"Night {'of' if item % 2 else 'in'} {1990 + item % 6}: Drama, drama" for item in range(60)]
    found = traits_of(np.ones((60, 2), np.float32), texts)
    counter = CountVectorizer(binary=True, min_df=5, max_df=0.5, token_pattern=r"\w+")
    binary = counter.fit_transform(texts).astype(np.float64)
    wanted = normalize(binary.multiply(np.log(60 / np.asarray(binary.sum(axis=0)))).tocsr()).toarray() * 0.5
    assert np.allclose(np.sort(found.words.toarray(), axis=1), np.sort(wanted, axis=1), atol=1e-6)
    assert np.allclose(found.products(np.ones((10, 1), np.float32), np.arange(60))[:, 0], 2 + wanted.sum(axis=1))
    nothing = traits_of(np.ones((3, 2), np.float32), ["a", "b", ""])
    assert nothing.rows(np.arange(3)).shape == (3, 2)


def test_what_a_word_tells_of_items_is_told_of_new_ones() -> None:
    """Vectors that say nothing, and users who choose by one word each."""
    texts = [f"{'red' if item % 2 == 0 else 'blue'} thing" for item in range(60)]
    user, item = (
        np.array(each) for each in zip(*[(u, i) for u in range(20) for i in range(u % 2, 48, 2)], strict=True)
    )
    history = History([str(each) for each in range(20)], user, item, item.astype(float), 60)
    held, draws = np.arange(60) >= 48, np.random.default_rng(4)
    vectors = draws.normal(size=(60, 4)).astype(np.float32)
    case = cold_case(history, traits_of(vectors, texts), held, unseen=held, exact_items=48, regularization=1.0)
    lists = case.lists((0.0, 0.0, 1.0), 6)
    assert all(set(each) == set(range(48 + user % 2, 60, 2)) for user, each in enumerate(lists))


def test_the_penalty_of_ease_is_the_one_whose_lists_foretell_the_last_training_events_best(history) -> None:
    early, late = history.cut()
    dense, known = early.matrix.toarray(), np.flatnonzero(early.popularity > 0)
    worth = {}
    for value in GRID:
        scores = np.full(dense.shape, -1e9)
        scores[:, known] = dense[:, known] @ fit_ease(early.matrix[:, known], value)
        scores[dense > 0] = -1e9
        right = np.zeros(dense.shape)
        right[late.user, late.item] = 1
        judged = right.any(axis=1)
        worth[value] = ndcg_score(right[judged], scores[judged], k=10)
    assert worth[choose_regularization(history, 45)] == pytest.approx(max(worth.values()))
    assert choose_regularization(history.keep(np.zeros(len(history), dtype=bool)), 45) in GRID


def test_weights_find_the_feature_that_tells() -> None:
    draws = np.random.default_rng(1)
    ranked, later = [], []
    for _ in range(60):
        table = draws.normal(size=(20, len(FEATURES))).astype(np.float32)
        ranked.append(Ranked(np.arange(20), table))
        later.append(np.array([int(np.argmax(2 * table[:, 6] + draws.gumbel(size=20)))]))
    weights = learn_weights(ranked, later)
    assert weights[6] == pytest.approx(2, abs=0.6)
    assert np.abs(np.delete(weights, 6)).max() < 0.5
    only = learn_weights(ranked, later, only=["popular"])
    assert np.flatnonzero(only).tolist() == [FEATURES.index("popular")]
    items, scores = order(ranked[0], weights)
    assert (np.diff(scores) <= 0).all()
    assert sorted(items.tolist()) == list(range(20))


def test_recent_events_weigh_more_and_searches_agree(tmp_path) -> None:
    vectors = unit(np.random.default_rng(2).normal(size=(400, 16)).astype(np.float32))
    rows = history_rows([np.array([3, 5]), np.array([], int)], 400, half_life=1)
    assert rows.toarray()[0, [3, 5]].tolist() == [0.5, 1.0]
    wanted = user_vectors([np.array([3, 5]), np.array([], int)], vectors, 1)
    assert wanted[0] == pytest.approx(unit(0.5 * vectors[3] + vectors[5]), abs=1e-6)
    assert not wanted[1].any()
    build_graph(vectors, tmp_path / "graph")
    graph, exact = open_search(vectors, tmp_path / "graph"), Search(vectors)
    shared = [len(set(graph.nearest(each, 10)) & set(exact.nearest(each, 10))) for each in vectors[:50]]
    assert np.mean(shared) > 9.5
    assert exact.nearest(vectors[7], 3)[0] == 7


def test_diverse_lists_hold_less_of_the_same() -> None:
    vectors = unit(np.array([[1, 0], [1, 0.01], [1, 0.02], [0, 1]], np.float32))
    scores = np.array([4.0, 3.9, 3.8, 3.0], np.float32)
    assert diverse_order(scores, vectors, 2, 0.0).tolist() == [0, 1]
    assert diverse_order(scores, vectors, 2, 0.6).tolist() == [0, 3]
    assert similarity_within(vectors[[0, 3]]) == pytest.approx(0, abs=1e-6)
    assert similarity_within(vectors[:1]) == 0


def test_counterfactual_estimates_cover_the_truth() -> None:
    """Lists of three of six items, drawn at one temperature, tell what another one would earn."""
    draws = np.random.default_rng(4)
    scores = np.array([1.5, 1.0, 0.5, 0.0, -0.5, -1.0])
    liking = np.array([0.05, 0.1, 0.5, 0.1, 0.3, 0.05])

    def show(temperature: float, count: int) -> tuple[list[list[int]], np.ndarray]:
        lists = [draw_list(scores, 3, temperature, draws).tolist() for _ in range(count)]
        return lists, (draws.random((count, 3)) < liking[np.array(lists)]).astype(float)

    first = np.array([draw_list(scores, 1, 1.0, draws)[0] for _ in range(4000)])
    assert np.bincount(first, minlength=6) / 4000 == pytest.approx(np.exp(scores) / np.exp(scores).sum(), abs=0.03)
    truth = liking[np.array(show(0.6, 20_000)[0])].sum(axis=1).mean()
    covered, values = np.zeros(2), []
    for _ in range(60):
        lists, rewards = show(1.2, 150)
        old, new = (np.array([chances_of(scores, each, at) for each in lists]) for at in (1.2, 0.6))
        weights = ratios_of(old, new)
        users = [str(user) for user in range(len(lists))]
        found = [estimate_plain(weights, rewards, users), estimate_normalized(weights, rewards, users)]
        covered += [each.low <= truth <= each.high for each in found]
        values.append([each.value for each in found])
    assert np.mean(values, axis=0) == pytest.approx([truth, truth], abs=0.05)
    assert covered.min() >= 51  # 95 % of 60 is 57; fewer than 51 happens once in 200 times
    assert 1 < found[0].effective < 150
    same = ratios_of(old, old)
    assert estimate_plain(same, rewards, users).value == pytest.approx(rewards.sum(axis=1).mean())


def test_lists_of_one_user_say_less_than_as_many_of_several() -> None:
    """Thirty users, each of whom chooses always or never: twenty lists of one say as much as one."""
    draws = np.random.default_rng(0)
    users = [f"user {user}" for user in range(30) for _ in range(20)]
    weights = np.ones((600, 1))
    covered = {True: 0, False: 0}
    for _ in range(200):
        rewards = np.repeat(draws.random(30) < 0.4, 20).astype(float)[:, None]
        for together, names in ((True, users), (False, [str(at) for at in range(600)])):
            for found in (estimate_plain(weights, rewards, names), estimate_normalized(weights, rewards, names)):
                assert found.value == pytest.approx(rewards.mean())
                covered[together] += found.low <= 0.4 <= found.high
    assert 370 <= covered[True] <= 400  # 95 % of 400 is 380
    assert covered[False] < 200


def test_what_is_cut_off_of_one_day_does_not_stand_last_in_the_catalogue() -> None:
    events = [(f"u{user}", item, 86_400.0) for user in range(200) for item in range(50)]
    history = history_of(events, 50)
    first, last = history.cut()
    assert first.item.mean() == pytest.approx(24.5, abs=1)
    assert last.item.mean() == pytest.approx(24.5, abs=1)
    again = history_of(events[::-1], 50)
    assert {name: again.of(at).tolist() for at, name in enumerate(again.users)} == {
        name: history.of(at).tolist() for at, name in enumerate(history.users)
    }
    assert np.diff(history.times_of(7)).max() == 0


def test_what_was_met_and_not_chosen_is_on_no_list_from_then_on(history: History, tmp_path: Path) -> None:
    users = np.array([0, 0, 2, 2])
    ends = [float(history.times_of(user)[-1]) for user in (0, 2)]
    other = [np.setdiff1d(np.arange(45), history.of(user))[:2] for user in (0, 2)]
    first = history.times_of(0)[0]
    passed = Passed(users, np.concatenate(other), np.array([first, ends[0], ends[1] + 1, first - 1]))
    own = replace(history, passed=passed)
    assert [each.tolist() for each in own.passed_each()[:3]] == [other[0].tolist(), [], other[1][1:].tolist()]
    train, _ = own.cut()
    assert train.passed_each()[0].tolist() == other[0][:1].tolist()  # the other one was met later
    assert own.passed_of(2).tolist() == other[1].tolist()
    assert len(own.passed_each()) == len(own.users)
    assert (train.met - train.matrix).nonzero()[1].tolist() == [other[0][0], other[1][1]]
    models = fit_collaborative(train, factors=4, exact_items=40, regularization=10.0, seed=0)
    for lists in evaluation.baseline_lists(models, train).values():
        assert other[0][0] not in lists[0]
        assert other[1][1] not in lists[2]
    write_history(tmp_path, Catalogue(*[[str(each) for each in range(45)]] * 3), own)
    again = load_history(tmp_path)[1]
    assert [each.tolist() for each in again.passed_each()] == [each.tolist() for each in own.passed_each()]
    vectors = unit(np.random.default_rng(0).normal(size=(45, 8)).astype(np.float32))
    ranked = rank_features(
        models, vectors, Search(vectors), train.of(0), half_life=20.0, count=45, passed=train.passed_each()[0]
    )
    assert sorted([*ranked.items.tolist(), *train.of(0).tolist(), int(other[0][0])]) == list(range(45))


def test_shorter_lists_take_no_places_from_the_others(tmp_path: Path) -> None:
    """Lists of one and of four of six items, drawn at one temperature, tell what another one would earn."""
    draws, scores = np.random.default_rng(0), np.array([1.5, 1.0, 0.5, 0.0, -0.5, -1.0])
    store = Store(f"sqlite:///{tmp_path / 'a.db'}")
    pool = [(f"i{at}", score) for at, score in enumerate(scores)]
    for at in range(60):
        places = draw_list(scores, 1 if at == 7 else 4, 1.0, draws)
        chances = chances_of(scores, places.tolist(), 1.0)
        shown = [(f"i{place}", float(chance)) for place, chance in zip(places, chances, strict=True)]
        name = store.show(f"u{at}", 1.0, pool, shown)
        store.add([Event(f"e{at}", f"u{at}", shown[-1][0], 1.0, name)])
    same = store.logged(1.0)
    assert same is not None
    assert same.rewards.shape == (60, 4)
    assert same.rewards.sum() == 60
    for find in (estimate_plain, estimate_normalized):
        assert find(ratios_of(same.old, same.new), same.rewards, same.users).value == pytest.approx(1)
    other = store.logged(0.7)
    assert other is not None
    weights = ratios_of(other.old, other.new)
    at = same.users.index("user u7")
    assert weights[at].tolist() == [weights[at, 0]] * 4
    assert estimate_plain(weights, other.rewards, other.users).value == pytest.approx(
        float((weights[:, -1]).sum()) / 60
    )  # what was chosen stands last in each


def test_times_are_read_in_the_usual_forms() -> None:
    assert seconds_of(964982703) == 964982703
    assert seconds_of("2026-03-01T12:00:00Z") == seconds_of("2026-03-01 13:00:00+01:00") == 1772366400
    assert seconds_of("2026-03-01") == seconds_of("2026-03-01T00:00:00+00:00")
    days = (20260301, "20260301", 20260301.0, 1772323200000, "1772323200", "Sun, 01 Mar 2026 00:00:00 GMT")
    assert {seconds_of(day) for day in days} == {seconds_of("2026-03-01")}
    assert [seconds_of(number) for number in (0, 7, "12345678", 1e8)] == [0, 7, 12345678, 1e8]  # no days
    for wrong in ("yesterday", True, None, "", -5, 1e18, float("nan")):
        assert seconds_of(wrong) is None


@pytest.mark.filterwarnings("error")
def test_a_tiny_temperature_sorts_and_its_chances_are_numbers() -> None:
    scores = np.array([3.0, 2.0, 1.0, -4.0])
    drawn = draw_list(scores, 3, 1e-320, np.random.default_rng(0)).tolist()
    assert drawn == [0, 1, 2]
    assert chances_of(scores, drawn, 1e-320).tolist() == [1, 1, 1]
    assert chances_of(scores, [1, 0], 1e-320).tolist() == [0, 1]
    assert draw_list(np.zeros(0), 3, 1.0, np.random.default_rng(0)).tolist() == []

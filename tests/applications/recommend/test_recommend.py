"""A recommender from tables to page: built with a tiny tower, judged, served, and moved."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlencode

import numpy as np
import pytest
from browser import MARKUP, PHONE, Page, serve
from fastapi.testclient import TestClient

from peftlab.applications.recommend.history import load_history, write_history
from peftlab.applications.recommend.recommender import Recommender
from peftlab.applications.recommend.service import build_service
from peftlab.applications.recommend.store import Store
from peftlab.applications.recommend.towers import TUNED_SHARES, TextVectors
from peftlab.applications.recommend.vectors import unit
from peftlab.assembly.app_file import load_application, load_part
from peftlab.assembly.app_folder import open_application
from peftlab.assembly.build import build_application
from peftlab.assembly.evaluate import evaluate_application, summary
from peftlab.core.application import Hosting, Workplace
from peftlab.core.errors import UserError
from peftlab.core.reporter import Reporter, Silent
from tests.conftest import sentences

REPOSITORY = Path(__file__).resolve().parents[3]
HOSTILE = "<script>alert(1)</script> \"' {{ 7 * 7 }}"
ITEMS, USERS = 60, 30
RECIPE = """\
type: recommend
name: shop
items: {source: items.csv, id: item, title: title, text: [kind]}
events: {source: events.csv, value: rating, least_value: 3}
pairs: {pairs: 60}
factors: 8
exact_items: 40
candidates: 20
text: {recipe: tower.yaml}
"""
TOWER = """\
name: tower
model: {path: %s}
task: {type: text_embedding, max_length: 24}
data: {source: nothing.jsonl, deduplicate: false}
method: {type: lora}
training: {max_steps: 2, batch_size: 8}
waive_guards: [answers_vary]
"""


def write_tables(folder: Path, tiny_bert: Path) -> None:
    draws = np.random.default_rng(0)
    texts = [text for text, _ in sentences(ITEMS)]
    texts[0] = HOSTILE.replace('"', "'")
    rows = [f'{at + 1},"{text}",{"red" if at % 2 else "blue"}' for at, text in enumerate(texts)]
    (folder / "items.csv").write_text("item,title,kind\n" + "\n".join(rows) + "\n")
    lines = ["user,item,time,rating"]
    for user in range(USERS):
        chosen = draws.choice(np.arange(user % 2, ITEMS - 4, 2), size=14, replace=False)
        lines += [f"u{user},{item + 1},{1_700_000_000 + 60 * step},{3 + step % 3}" for step, item in enumerate(chosen)]
    (folder / "events.csv").write_text("\n".join([*lines, "u0,2,1700000000,1"]) + "\n")
    (folder / "tower.yaml").write_text(TOWER % tiny_bert)
    (folder / "shop.yaml").write_text(RECIPE)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, tiny_bert: Path) -> Path:
    folder = tmp_path_factory.mktemp("shop")
    write_tables(folder, tiny_bert)
    build_application(load_application(folder / "shop.yaml"), folder / "built", offline=True, device="cpu")
    shutil.move(folder / "built", folder / "moved")
    return folder / "moved"


@pytest.fixture(scope="module")
def recommender(built: Path) -> Recommender:
    application, place = open_application(built, offline=True, device="cpu")
    return Recommender(application, place)


@pytest.fixture
def client(recommender: Recommender, tmp_path: Path) -> TestClient:
    store = Store(f"sqlite:///{tmp_path / 'shop.db'}")
    return TestClient(build_service("shop", recommender, store, Hosting("unused")))


def test_an_evaluation_compares_the_whole_with_each_part(built: Path) -> None:
    application, place = open_application(built, offline=True, device="cpu")
    result = evaluate_application(application, place)
    figures = result["figures"]
    for system in ("system", "served", "popularity", "item_knn", "als", "ease", "text", "untuned_text"):
        for measure in ("recall@10", "ndcg@10"):
            found = figures[f"{system}.{measure}"]
            assert 0 <= found["low"] <= found["value"] <= found["high"] <= 1 or found["low"] < 0
            assert found["n"] == USERS
        assert figures[f"{system}.coverage"]["value"] > 0
    assert figures["system.recall@10"]["value"] > figures["popularity.recall@10"]["value"]  # two kinds of users
    gain = figures["system.ndcg@10_above_ease"]
    assert gain["value"] == pytest.approx(figures["system.ndcg@10"]["value"] - figures["ease.ndcg@10"]["value"])
    assert {"cold.recall@10", "cold_text.recall@10_by_tuning", "cold.random_recall@10"} <= set(figures)
    assert figures["served.likeness"]["value"] <= figures["system.likeness"]["value"]
    assert "system.recall@10" in summary(result)


def test_after_one_moment_only_users_known_by_then_are_judged(built: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(built, tmp_path / "built")
    catalogue, history = load_history(folder)
    days = (history.user >= USERS - 10).astype(float) + (history.user >= USERS - 5)
    write_history(folder, catalogue, replace(history, time=history.time + days * 86_400))
    application, place = open_application(folder, offline=True, device="cpu")
    application = application.model_copy(update={"split": "temporal_global"})
    result = evaluate_application(application, place)
    assert {result["figures"][f"{system}.recall@10"]["n"] for system in ("system", "ease", "text")} == {5}
    assert "25 of 30 users are not judged: 5 have no earlier event, 20 no later one." in result["notes"]
    days = history.user >= USERS - 6  # these have all that is later, and nothing earlier
    write_history(folder, catalogue, replace(history, time=history.time + days * 86_400))
    with pytest.raises(UserError, match="nobody"):
        evaluate_application(application, place)


def test_building_again_does_nothing_twice(built: Path, tiny_bert: Path, tmp_path: Path) -> None:
    write_tables(tmp_path, tiny_bert)
    folder = shutil.copytree(built, tmp_path / "built")
    before = {path: path.stat().st_mtime_ns for path in folder.glob("*.np*")}
    pairs = (folder / "pairs.jsonl").read_text()
    application, place = open_application(folder, offline=True)
    (folder / "weights.json").unlink()  # as if it had been interrupted there
    application.build(place)
    assert {path: path.stat().st_mtime_ns for path in folder.glob("*.np*")} == before
    assert (folder / "weights.json").read_text() == (built / "weights.json").read_text()
    assert pairs == (built / "pairs.jsonl").read_text()
    there = replace(place, sources=tmp_path)
    assert application.prepare(there)["text"]["data.source"] == str((folder / "pairs.jsonl").resolve())
    for table, more in (("events.csv", "u0,60,1750000000,5\n"), ("items.csv", "99,a new one,red\n")):
        text = (tmp_path / table).read_text()
        (tmp_path / table).write_text(text + more)
        with pytest.raises(UserError, match="tables have changed since this folder was begun"):
            application.prepare(there)
        (tmp_path / table).write_text(text)


def test_what_all_texts_have_in_common_is_taken_from_items_and_from_questions(recommender: Recommender) -> None:
    assert np.abs(recommender.vectors.mean(axis=0)).max() < 0.1
    for at in (0, 5):
        assert recommender.embed(recommender.catalogue.texts[at]) @ recommender.vectors[at] > 0.999


@pytest.mark.parametrize("share", [1.0, 0.3, 0.0])
def test_questions_are_embedded_as_the_items_were(built: Path, tmp_path: Path, share: float) -> None:
    """By the tuned tower, by the model before tuning, or by both."""
    folder = shutil.copytree(built, tmp_path / "built")
    application, place = open_application(folder, offline=True, device="cpu")
    weights = json.loads((folder / "weights.json").read_text())
    assert weights["tuned"] in TUNED_SHARES
    (folder / "weights.json").write_text(json.dumps({**weights, "tuned": share}))
    own = Recommender(application, place)
    assert own.vectors.shape[1] == (64 if share == 0.3 else 32)
    for at in (0, 5):
        assert own.embed(own.catalogue.texts[at]) @ own.vectors[at] > 0.999
    assert own.suggest(own.history_of("u0"), text="red").items


def test_vectors_side_by_side_have_the_mean_of_both_products() -> None:
    draws = np.random.default_rng(0)
    tuned, untuned = (unit(draws.normal(size=(6, 4)).astype(np.float32)) for _ in range(2))
    both = TextVectors(tuned, untuned)
    for share in both.shares:
        mixed = both.mixed(share)
        assert np.allclose(mixed @ mixed.T, share * tuned @ tuned.T + (1 - share) * untuned @ untuned.T, atol=1e-6)
    alone = TextVectors(tuned, None)
    assert alone.shares == (1.0,)
    with pytest.raises(UserError, match="before tuning are gone"):
        alone.mixed(0.5)


def test_lists_hold_nothing_seen_and_say_why(client: TestClient, recommender: Recommender) -> None:
    answer = client.post("/api/recommend", json={"user": "u1", "count": 10, "new": 2}).json()
    seen = {recommender.catalogue.ids[at] for at in recommender.history_of("u1")}
    shown = [each["item"] for each in answer["items"]]
    assert answer["known"]
    assert len(set(shown)) == 10
    assert not seen & set(shown)
    assert any(each["why"] and each["why"][0]["worth"] > 0 for each in answer["items"])
    titles = {title for each in answer["items"] for why in each["why"] for title in why["items"]}
    assert titles <= {recommender.catalogue.titles[at] for at in recommender.history_of("u1")}
    nobody = client.post("/api/recommend", json={"user": "stranger"}).json()
    assert not nobody["known"]
    assert len(nobody["items"]) == 10
    text = recommender.catalogue.texts[20]
    found = client.post("/api/recommend", json={"text": text, "diversity": 0}).json()["items"]
    assert found[0]["item"] == recommender.catalogue.ids[20]
    assert [each["item"] for each in answer["new"]]
    assert all(
        not recommender.history.popularity[recommender.catalogue.positions[each["item"]]] for each in answer["new"]
    )
    assert client.post("/api/recommend", json={}).status_code == 422


def test_events_change_the_next_list_and_are_kept_once_or_not_at_all(
    client: TestClient, recommender: Recommender
) -> None:
    first = client.post("/api/recommend", json={"user": "fresh"}).json()
    chosen = first["items"][0]["item"]
    event = {"id": "e1", "user": "fresh", "item": chosen, "list": first["list"]}
    assert client.post("/api/events", json={"events": [event]}).json() == {"accepted": 1, "new": 1}
    assert client.post("/api/events", json={"events": [event]}).json() == {"accepted": 1, "new": 0}
    second = client.post("/api/recommend", json={"user": "fresh"}).json()
    assert second["known"]
    assert chosen not in [each["item"] for each in second["items"]]
    good = {"user": "fresh", "item": "7"}
    for wrong, message in (
        ({"user": "fresh", "item": "no such"}, "events.1.item: the item 'no such' is not in the catalogue"),
        ({**good, "time": "soon"}, "events.1.time: the time 'soon' cannot be read"),
        ({**good, "time": time.time() + 1e6}, "lies in the future"),
        ({**good, "list": "none"}, "no list 'none' was shown"),
        ({**good, "user": ""}, "events.1.user"),
        ({**good, "user": "  "}, "events.1.user"),
    ):
        answer = client.post("/api/events", json={"events": [good, wrong]})
        assert answer.status_code == 422
        assert message in answer.json()["error"]
    assert client.post("/api/recommend", json={"user": "fresh"}).json()["items"] == second["items"]  # nothing was kept
    metrics = client.get("/metrics").text
    assert "recommend_events_total 1.0" in metrics
    assert client.get("/healthz").json() == {"status": "ok"}
    assert "/api/recommend" in client.get("/openapi.json").json()["paths"]


def test_what_a_user_rated_low_is_not_shown_again(recommender: Recommender, client: TestClient) -> None:
    low = recommender.catalogue.positions["2"]
    assert recommender.passed_of("u0").tolist() == [low]
    assert recommender.passed_of("u1").tolist() == recommender.passed_of("nobody").tolist() == []
    assert low not in recommender.history_of("u0")
    for more in ({}, {"text": recommender.catalogue.titles[low]}, {"temperature": 1.0}, {"new": 50}):
        shown = client.post("/api/recommend", json={"user": "u0", "count": 50, **more}).json()
        assert len(shown["items"]) > 5
        assert "2" not in [each["item"] for each in [*shown["items"], *shown["new"]]]
    known = client.post("/api/recommend", json={"text": recommender.catalogue.titles[low], "count": 50}).json()
    assert "2" in [each["item"] for each in known["items"]]


def test_an_event_that_is_older_than_the_table_is_no_last_choice(recommender: Recommender, client: TestClient) -> None:
    known = recommender.history_of("u1").tolist()
    ids = recommender.catalogue.ids
    new = [at for at in range(len(ids)) if at not in known][:2]
    events = [
        {"user": " u1 ", "item": f" {ids[at]}", "time": time} for at, time in zip(new, (1e9, 1.71e9), strict=True)
    ]
    assert client.post("/api/events", json={"events": events}).status_code == 200
    more = [(ids[new[0]], 1e9), (ids[new[1]], 1.71e9), (ids[known[0]], 1.72e9), ("gone", 1.0)]
    assert recommender.history_of("u1", more).tolist() == [new[0], *known, new[1]]
    assert recommender.history_of("nobody", more).tolist() == [new[0], new[1], known[0]]
    answer = client.post("/api/recommend", json={"user": "u1 ", "text": "  "}).json()
    assert answer["known"]
    assert answer["user"] == "u1"
    assert recommender.catalogue.titles[new[1]] in client.get("/?user=u1").text


def test_drawn_lists_are_logged_with_their_chances_and_give_estimates(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, chance = np.random.default_rng, np.random.default_rng(0)  # else the sorted list is drawn now and then
    monkeypatch.setattr(np.random, "default_rng", lambda *seed: made(*seed) if seed else chance)
    assert "drawn so far; 30 are needed" in client.get("/api/estimates?temperature=1").json()["error"]
    earned = 0
    for _ in range(40):
        shown = client.post("/api/recommend", json={"user": "u1", "temperature": 1.0, "count": 3}).json()
        assert all(0 < each["chance"] < 1 for each in shown["items"])
        if int(shown["items"][0]["item"]) % 3 == 0:
            earned += 1
            event = {"user": "someone", "item": shown["items"][0]["item"], "list": shown["list"]}
            client.post("/api/events", json={"events": [event]})
    same = client.get("/api/estimates?temperature=1").json()
    assert same["lists"] == 40
    assert same["shown"] == earned / 40
    assert same["plain"]["value"] == pytest.approx(earned / 40)  # the same policy: nothing is weighed
    assert same["normalized"]["value"] == pytest.approx(earned / 40)
    assert (same["plain"]["low"], same["normalized"]["high"]) == (None, None)  # all lists are of one user
    for _ in range(3):
        client.post("/api/recommend", json={"user": "u2", "temperature": 1.0, "count": 3})
        client.post("/api/recommend", json={"text": "a film", "temperature": 1.0, "count": 3})
    more = client.get("/api/estimates?temperature=1").json()
    assert more["plain"]["low"] < more["plain"]["value"] < more["plain"]["high"]
    assert client.get("/api/estimates?temperature=0.5").json()["plain"]["effective_lists"] < 40
    few = client.get("/api/estimates?temperature=0.2").json()["plain"]
    assert few["effective_lists"] < 23
    assert (few["low"], few["high"]) == (None, None)
    far = client.get("/api/estimates?temperature=1e-6")
    assert far.status_code == 422
    assert "none of the 46 lists would have been drawn" in far.json()["error"]


def test_the_page_shows_hostile_texts_as_texts(client: TestClient, recommender: Recommender) -> None:
    client.post("/api/recommend", json={"user": "u1"})
    assert "0 events, 1 list." in client.get("/").text
    title = recommender.catalogue.titles[0]
    for query in ({"text": title}, {"user": HOSTILE}, {"user": "u1"}, {}):
        page = client.get("/", params=query)
        assert page.status_code == 200
        assert "<script>alert" not in page.text
        assert ">49<" not in page.text
    assert "&lt;script&gt;alert" in client.get("/", params={"text": title}).text
    shown = client.get("/", params={"user": "u1"}).text
    assert "I choose this" in shown
    assert "What <bdi>u1</bdi> chose" in shown
    assert client.get("/page.js").headers["content-type"].startswith("text/javascript")


@pytest.mark.slow
def test_markup_in_titles_and_users_runs_nothing_in_a_browser(
    recommender: Recommender, tab: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalogue = recommender.catalogue
    marked = [[MARKUP + each for each in texts] for texts in (catalogue.titles, catalogue.texts)]
    marked[1] = [f"{each} {900 * 'many words '}" for each in marked[1]]
    monkeypatch.setattr(recommender, "catalogue", replace(catalogue, titles=marked[0], texts=marked[1]))
    store = Store(f"sqlite:///{tmp_path / 'shop.db'}")
    seen = "document.body.innerText.includes('<script>window.ran = 1</script>')"
    with serve(build_service(f"shop {MARKUP}", recommender, store, Hosting("unused"))) as address:
        tab.forget()
        for name, query in (("user", {"user": "u1"}), ("text", {"text": MARKUP}), ("stranger", {"user": MARKUP})):
            tab.visit(f"{address}/?{urlencode(query)}", **PHONE)
            tab.evaluate("for (const item of document.querySelectorAll('details')) item.open = true")
            tab.look(f"recommend-{name}")
            assert tab.evaluate(seen), name
            assert tab.evaluate("document.querySelector('.list .note').offsetHeight") <= 192
        tab.evaluate("document.querySelector('.choose').focus()")
        tab.press("Enter", 13, "\r")
        tab.wait_for("document.getElementById('said').textContent.startsWith('Kept.')")
        assert tab.evaluate("document.activeElement.textContent") == "Chosen"
        tab.visit(f"{address}/?{urlencode({'user': MARKUP})}", **PHONE)
        tab.evaluate("for (const item of document.querySelectorAll('details')) item.open = true")
        tab.look("recommend-chosen")
        assert tab.evaluate("document.querySelectorAll('details li').length") == 1
        assert tab.errors == []
        assert tab.asked_elsewhere(address) == []


class Told(Silent):
    """Keeps what was said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


def test_faulty_rows_are_named_and_left_out_only_on_demand(tmp_path: Path, tiny_bert: Path) -> None:
    write_tables(tmp_path, tiny_bert)
    events, items = (tmp_path / "events.csv").read_text(), (tmp_path / "items.csv").read_text()

    def check(reporter: Reporter | None = None) -> None:
        application = load_application(tmp_path / "shop.yaml").application
        application.check(Workplace(tmp_path / "built", {}, tmp_path, reporter or Silent()))

    count = events.count("\n")
    for row, message in (
        ("u1,999,1700000000,5", "the item '999' is not in the catalogue"),
        ("u1,3,soon,5", "the time 'soon' cannot be read"),
        ("u1,3,4000000000,5", "lies in the future"),
        (",3,1700000000,5", "the event has no user"),
        ("u1,3,1700000000,much", "the rating is no number"),
    ):
        (tmp_path / "events.csv").write_text(events + row + "\n")
        with pytest.raises(UserError, match=message) as caught:
            check()
        assert caught.value.where == f"events.csv, row {count}"
    (tmp_path / "shop.yaml").write_text(RECIPE + "leave_out_faulty_rows: true\n")
    told = Told()
    check(told)
    assert told.lines == [f"1 row was left out: ratings that are no numbers (the first: events.csv, row {count})"]
    (tmp_path / "shop.yaml").write_text(RECIPE)
    (tmp_path / "events.csv").write_text(events)
    (tmp_path / "items.csv").write_text(items + "99,,red\n")
    with pytest.raises(UserError, match=f"items.csv, row {ITEMS + 1}: the item '99' has no text"):
        check()
    (tmp_path / "items.csv").write_text(items.replace("item,title", "item,titel"))
    with pytest.raises(UserError, match="title"):
        check()
    (tmp_path / "events.csv").write_text("user,item,time,rating\nu1,3,1700000000,1\n")
    (tmp_path / "items.csv").write_text(items)
    with pytest.raises(UserError, match="no event can be used"):
        check()


def test_the_shipped_recipes_fit_their_parts() -> None:
    for path in sorted((REPOSITORY / "recipes" / "applications").glob("recommend*.yaml")):
        file = load_application(path)
        recipe, _ = load_part(file, "text", {"data.source": "pairs.jsonl"})
        assert file.application.registered_name == "recommend"
        assert recipe.task.registered_name == "text_embedding"


def test_a_database_of_another_version_is_left_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"sqlite:///{tmp_path / 'a.db'}"
    Store(url)
    monkeypatch.setattr("peftlab.applications.recommend.store.VERSION", 2)
    with pytest.raises(UserError, match="holds recommend, version 1; needed: recommend, version 2"):
        Store(url)

"""What the board does: the form, who may act, and that nothing leaves its folder. No process is started here."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from peftlab.board.app import build_board
from peftlab.board.form import answers_of, choices_of, sections_of, settings_of
from peftlab.board.jobs import FOLDER, Job, Jobs, JobState
from peftlab.recipe.from_settings import recipe_of_settings
from peftlab.recipe.schema import load_recipe
from peftlab.run.run_folder import RunFolder

TOKEN = "a long secret"
OWN = {"Origin": "http://testserver"}
RECIPES = [
    path
    for path in sorted((Path(__file__).parents[2] / "recipes").rglob("*.yaml"))
    if path.parent.name != "applications"
]


class Noted(Jobs):
    """Notes what would be started."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.started: list[list[str]] = []

    def _run(self, job: Job, arguments: list[str]) -> Job:
        self.started.append(arguments)
        return job

    def find(self, name: str) -> Job | None:
        return Job(name, "run", {"task": "text_classification", "method": "lora", "seed": "7"})

    def state(self, job: Job) -> JobState:
        return JobState(False, 2, "<b>refused</b>")


@pytest.fixture
def jobs(tmp_path: Path) -> Noted:
    (tmp_path / "runs").mkdir()
    return Noted(tmp_path / "runs")


@pytest.fixture
def client(tmp_path: Path, jobs: Noted) -> TestClient:
    app = build_board(tmp_path / "runs", token=TOKEN, token_to_look=False, jobs=jobs)
    client = TestClient(app, raise_server_exceptions=False, follow_redirects=False)
    client.get("/", params={"token": TOKEN})
    return client


@pytest.mark.parametrize(
    "headers",
    [
        {},  # a program that does not say where the form was
        {"Origin": "http://evil.example"},
        {"Origin": "http://testserver:3000"},  # another server of this machine, which gets the same cookies
        {"Origin": "null"},
        {"Origin": "http://testserver", "Sec-Fetch-Site": "cross-site"},
        {"Origin": "http://testserver", "Sec-Fetch-Site": "same-site"},
    ],
)
def test_no_page_of_another_site_acts(client: TestClient, jobs: Noted, headers: dict[str, str]) -> None:
    form = {"task": "text_classification", "method": "lora", "data.source": "x.csv", "model.path": "m"}
    for address in ("/new", "/run/first/stop", "/run/first/resume", "/run/first/try", "/job/x/stop"):
        assert client.post(address, data=form, headers=headers).status_code == 403
    assert jobs.started == []


def test_only_who_has_the_token_acts_and_it_is_a_form_of_some_size(client: TestClient, jobs: Noted) -> None:
    form = {"task": "text_classification", "method": "lora", "data.source": "x.csv", "model.path": "m"}
    stranger = TestClient(client.app)
    assert "New run" not in stranger.get("/").text
    assert "disabled>Start the run" in stranger.get("/new?task=causal_lm&method=lora").text
    assert stranger.post("/new", data=form, headers=OWN).status_code == 403
    assert client.post("/new", json=form, headers=OWN).status_code == 415
    assert client.post("/new", data={"name": "x" * 300_000}, headers=OWN).status_code == 413
    assert client.post("/new", data={f"k{at}": "" for at in range(3000)}, headers=OWN).status_code == 400
    assert jobs.started == []
    with pytest.raises(KeyError):
        stranger.cookies["peftlab_board_0"]


def test_a_run_is_started_as_it_was_typed(client: TestClient, jobs: Noted, tmp_path: Path) -> None:
    assert "New run" in client.get("/").text
    page = client.get("/new", params={"task": "text_classification", "method": "lora"}).text
    for key in ("training.epochs", "method.rank", "task.max_length", "data.encoding", "seed"):
        assert f'name="{key}"' in page
    assert "trust_remote_code" not in page
    form = {"task": "text_classification", "method": "lora", "model.path": "my model", "data.source": "a: b.csv"}
    form |= {"name": "mine", "task.label": "2020", "task.text": "[title, body]", "training.learning_rate": "5e-4"}
    answer = client.post("/new", data=form | {"seed": ""}, headers=OWN)
    assert answer.status_code == 303
    settings = jobs.started[0][1::2]
    recipe, _ = recipe_of_settings(settings)
    assert (recipe.name, recipe.model.path, recipe.data.source) == ("mine", "my model", "a: b.csv")
    assert (recipe.task.label, recipe.task.text, recipe.training.learning_rate) == ("2020", ["title", "body"], 5e-4)
    refused = client.get(answer.headers["location"]).text
    assert "&lt;b&gt;refused" in refused
    assert "Back to the form" in refused
    assert 'value="7"' in client.get("/new?job=20260101T000000Z-00000000").text


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ({"method.rank": "-1"}, "method.rank"),
        ({"training.epochs": "two"}, "training.epochs"),
        ({"method.rnak": "8"}, "is no field"),
        ({"model.trust_remote_code": "true"}, "is no field"),
        ({"name": "../outside"}, "name"),
        ({"training.regularizers": "[{type: fmg}]"}, "regularizers"),
        ({"training.regularizers": "[{"}, "YAML"),
    ],
)
def test_what_cannot_be_is_told_above_the_form(
    client: TestClient, jobs: Noted, typed: dict[str, str], told: str
) -> None:
    form = {"task": "text_classification", "method": "lora", "model.path": "m", "data.source": "x.csv"} | typed
    answer = client.post("/new", data=form, headers=OWN)
    assert answer.status_code == 422
    alert = answer.text.split('role="alert">')[1].split("</p>")[0]
    assert told in alert
    assert 'value="x.csv"' in answer.text
    assert jobs.started == []
    assert client.post("/new", data=form | {"task": "nothing"}, headers=OWN).status_code == 422


def test_every_task_and_method_has_a_form() -> None:
    for task in choices_of("task"):
        assert any(section.name == "task" for section in sections_of(task, "full"))
    for method in choices_of("method"):
        assert sections_of("text_classification", method)


def test_every_recipe_comes_through_the_form_unchanged() -> None:
    for path in RECIPES:
        recipe = load_recipe(path)[0].model_dump(mode="json")
        typed = answers_of(recipe)
        again, _ = recipe_of_settings(settings_of(typed, typed["task"], typed["method"]))
        assert again.model_dump(mode="json") == recipe, path


def test_a_run_is_asked_and_a_like_one_is_typed_in(
    client: TestClient, jobs: Noted, tmp_path: Path, tiny_run: Callable[..., Path]
) -> None:
    shutil.copytree(tiny_run(), tmp_path / "runs" / "first")
    page = client.get("/run/first").text
    assert 'name="text.text"' in page
    assert "Stop" not in page
    asked = client.post("/run/first/try", data={"text.text": "a <b>fine</b> day", "act": "predict"}, headers=OWN)
    assert asked.status_code == 200
    assert "prediction" in asked.text
    assert "a &lt;b&gt;fine" in asked.text
    explained = client.post("/run/first/try", data={"text.text": "a fine day", "act": "explain"}, headers=OWN).text
    assert 'class="token' in explained
    empty = client.post("/run/first/try", data={"text.text": " "}, headers=OWN)
    assert empty.status_code == 422
    assert "there is no text" in empty.text
    assert client.post("/run/first/resume", data={"act": ""}, headers=OWN).status_code == 422
    assert client.post("/run/first/stop", data={"act": ""}, headers=OWN).status_code == 422
    form = client.get("/new", params={"like": "first"}).text
    assert 'value="2e-2"' in form or 'value="0.02"' in form
    (tmp_path / "runs" / "first" / "adapter" / "adapter_model.safetensors").write_bytes(b"none")
    (tmp_path / "runs" / "first" / "record.json").touch()
    broken = client.post("/run/first/try", data={"text.text": "a fine day"}, headers=OWN)
    assert broken.status_code == 422
    assert "Traceback" not in broken.text


@pytest.mark.parametrize("trusts", [True, False])
def test_code_of_a_run_that_is_taken_up_is_none_of_the_visitors_word(
    client: TestClient, jobs: Noted, tmp_path: Path, tiny_run: Callable[..., Path], trusts: bool
) -> None:
    folder = tmp_path / "runs" / "first"
    shutil.copytree(tiny_run(), folder)
    record = json.loads((folder / "record.json").read_text())
    (folder / "record.json").write_text(json.dumps({**record, "status": "cancelled"}))
    recipe = (folder / "recipe.yaml").read_text()
    (folder / "recipe.yaml").write_text(
        recipe.replace("trust_remote_code: false", f"trust_remote_code: {str(trusts).lower()}")
    )
    assert client.post("/run/first/resume", data={"act": ""}, headers=OWN).status_code == 303
    (arguments,) = jobs.started
    assert ("model.trust_remote_code=known" in arguments) is trusts
    recipe_of_board, _ = load_recipe(folder / "recipe.yaml", arguments[3::2] if trusts else [])
    assert recipe_of_board.model.trust_remote_code == ("known" if trusts else False)
    RunFolder(folder).keep_recipe(recipe_of_board)  # it is the same recipe, by whoever's word


@pytest.mark.parametrize("key", ["nothing", "../outside", "..%2Foutside", "/etc", "first/../../outside"])
def test_only_what_was_found_can_be_acted_on(client: TestClient, jobs: Noted, tmp_path: Path, key: str) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "record.json").write_text("{}")
    for act in ("stop", "resume", "try"):
        assert client.post(f"/run/{key}/{act}", data={"text.text": "x"}, headers=OWN).status_code in (404, 405)
    assert client.get("/new", params={"like": key}).status_code == 404
    assert jobs.started == []
    plain = Jobs(tmp_path / "runs")
    for name in (key, "../../outside/record", "20260101T000000Z-00000000"):
        assert plain.find(name) is None


def test_the_folder_of_started_runs_is_no_link(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / FOLDER).symlink_to(tmp_path / "elsewhere")
    app = build_board(tmp_path / "runs", token=TOKEN, token_to_look=False)
    client = TestClient(app, raise_server_exceptions=False)
    client.get("/", params={"token": TOKEN})
    form = {"task": "text_classification", "method": "lora", "model.path": "m", "data.source": "x.csv"}
    assert "is a link" in client.post("/new", data=form, headers=OWN).text
    assert list((tmp_path / "elsewhere").iterdir()) == []

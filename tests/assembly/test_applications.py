"""Applications: recipes, folders, verbs, and what stands before their pages; with one that counts words."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy
from fastapi.testclient import TestClient
from typer.testing import CliRunner

from peftlab.artifact.saved_run import SavedRun
from peftlab.assembly.app_file import application_schema, load_application, load_part
from peftlab.assembly.app_folder import STATE_NAME, open_application
from peftlab.assembly.build import build_application
from peftlab.assembly.database import Database, StorageError
from peftlab.assembly.site import build_site
from peftlab.cli.app import app
from peftlab.core.application import APPLICATIONS, Application, Hosting, Part, Workplace
from peftlab.core.audit import Figure, Findings
from peftlab.core.errors import ConfigError, UserError
from peftlab.core.files import write_text


class Counting(Application):
    """Counts words."""

    words: int = 3
    first: Part | None = None

    def check(self, place: Workplace) -> None:
        if self.words < 1:
            raise UserError("no words", where="words")

    def build(self, place: Workplace) -> None:
        write_text(place.folder / "index.txt", " ".join(["word"] * self.words))

    def evaluate(self, place: Workplace) -> Findings:
        count = len((place.folder / "index.txt").read_text().split())
        return Findings([Figure("system.words", count, count, "It counts all words.", sampled="words", unit="count")])

    def open_app(self, place: Workplace, hosting: Hosting) -> Any:
        return build_site(self.name, hosting, max_body_bytes=100)


class Learning(Counting):
    """Makes the table that its part learns from."""

    def prepare(self, place: Workplace) -> dict[str, dict[str, Any]]:
        path = place.folder.resolve() / "tables" / "train.csv"
        path.parent.mkdir(exist_ok=True)
        rows = [f"{word} number {at},{word}" for at in range(12) for word in ("good", "bad")]
        write_text(path, "\n".join(["text,label", *rows]) + "\n")
        return {"first": {"data.source": {"train": str(path)}}}


@pytest.fixture(autouse=True)
def counting() -> Iterator[None]:
    APPLICATIONS.names()
    APPLICATIONS.register("counting")(Counting)
    APPLICATIONS.register("learning")(Learning)
    yield
    del APPLICATIONS._classes["counting"], APPLICATIONS._classes["learning"]


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "words.yaml"
    path.write_text("type: counting\nwords: 4\n")
    return path


def test_verbs_build_evaluate_and_go_on(recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = CliRunner().invoke
    assert run(app, ["app", "evaluate", str(recipe)]).exit_code == 2  # nothing is built
    built = run(app, ["app", "build", str(recipe), "--json"])
    assert built.exit_code == 0
    assert json.loads(built.stdout)["folder"] == "runs/words"
    assert run(app, ["app", "build", str(recipe)]).exit_code == 0
    kept = Path("runs/words/application.yaml")
    assert "seed: 0\n" in kept.read_text()
    kept.write_text(kept.read_text().replace("seed: 0\n", ""))  # as of a peftlab that had no such key
    assert run(app, ["app", "build", str(recipe)]).exit_code == 0
    assert run(app, ["app", "build", str(recipe), "--set", "words=5"]).exit_code == 2  # another recipe
    assert run(app, ["app", "build", str(recipe), "--set", "seed=1"]).exit_code == 2
    shutil.move("runs/words", "moved")
    found = run(app, ["app", "evaluate", "moved", "--json"])
    assert json.loads(found.stdout)["figures"]["system.words"]["value"] == 4
    assert "It counts all words." in run(app, ["app", "evaluate", "moved"]).stdout
    assert json.loads(run(app, ["ls", "applications", "--json"]).stdout)["applications"]


def test_ctrl_c_while_a_part_is_tuned_says_how_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from peftlab.assembly import build

    cancelled = SimpleNamespace(record=SimpleNamespace(status="cancelled", error="stopped by the user"))
    monkeypatch.setattr(build, "run_recipe", lambda *_, **__: cancelled)
    (tmp_path / "a.yaml").write_text("type: learning\nfirst: {recipe: quickstart}\n")
    done = CliRunner().invoke(app, ["app", "build", str(tmp_path / "a.yaml"), "--output-dir", str(tmp_path / "built")])
    assert done.exit_code == 1
    assert "Stopped. The same command goes on from here." in done.stderr
    assert "Mend" not in done.stderr


@pytest.mark.slow
def test_building_goes_on_in_a_folder_that_was_moved(tmp_path: Path, tiny_bert: Path) -> None:
    (tmp_path / "part.yaml").write_text(
        f"model: {{path: {tiny_bert}}}\ntask: {{type: text_classification, text: text, label: label, max_length: 8}}\n"
        "data: {source: none.csv, validation_fraction: 0.3, test_fraction: 0.3}\nmethod: {type: bitfit}\n"
        "training: {max_steps: 1, batch_size: 4}\nmeasure: false\nwaive_guards: [answers_vary]\n"
    )
    (tmp_path / "app.yaml").write_text("type: learning\nfirst: {recipe: part.yaml}\n")
    file, moved = load_application(tmp_path / "app.yaml"), tmp_path / "there" / "moved"
    build_application(file, tmp_path / "built")
    moved.parent.mkdir()
    (tmp_path / "built").rename(moved)
    part = moved / "parts/first"
    record = (part / "record.json").read_bytes()
    build_application(file, moved)
    assert (part / "record.json").read_bytes() == record, "a part that is finished is not tuned again"
    assert SavedRun.open(part).recipe.data.source.train == str(moved / "tables/train.csv")
    (part / "record.json").unlink()  # a part that was interrupted goes on
    moved = moved.rename(tmp_path / "again")
    build_application(file, moved)
    assert SavedRun.open(moved / "parts/first").record.status == "success"
    (tmp_path / "part.yaml").write_text((tmp_path / "part.yaml").read_text().replace("max_steps: 1", "max_steps: 2"))
    with pytest.raises(UserError, match=r"another recipe: training.max_steps"):
        build_application(file, moved)


def test_every_applications_recipe_loads_with_its_parts() -> None:
    folder = Path(__file__).resolve().parents[2] / "recipes" / "applications"
    files = [path for path in sorted(folder.glob("*.yaml")) if "\ntype:" in path.read_text()]
    assert files
    for path in files:
        file = load_application(path)
        for key, part in file.application.parts().items():
            assert part.recipe is None or load_part(file, key)


def test_wrong_recipes_name_their_line(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    for text, message in (
        ("type: counting\nwrods: 4\n", r"a.yaml:2: wrods: unknown key\n.*words"),
        ("type: conting\n", "unknown application `conting`"),
        ("words: 4\n", "the key `type` is required"),
        ("task: {type: causal_lm}\n", "a recipe of one run"),
        ("type: counting\nfirst: {set: {seed: 1}}\n", "either the key `recipe` or the key `run`"),
        ("type: counting\nfirst: {run: x, set: {seed: 1}}\n", "stays as it is"),
        ("type: counting\nname: ../../up\n", r"a.yaml:2: name: '../../up' cannot name a folder"),
        ("type: counting\nname: ''\n", r"a.yaml:2: name: '' cannot name a folder"),
    ):
        path.write_text(text)
        with pytest.raises(ConfigError, match=message):
            load_application(path)
    blank = tmp_path / "my app.yaml"
    blank.write_text("type: counting\n")
    with pytest.raises(ConfigError, match=r"name: 'my app' cannot name a folder"):
        load_application(blank)
    path.write_text("type: counting\nfirst: {recipe: none.yaml}\n")
    with pytest.raises(ConfigError, match=r"a.yaml:2: first.recipe: there is no recipe none.yaml"):
        build_application(load_application(path), tmp_path / "built")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"posts": {"source": "gone.csv"}}, r"a.yaml:4: posts.source: no such file or folder"),
        ({"posts": {"source": "posts.csv", "encoding": "foo"}}, r"a.yaml:4: posts.encoding: unknown encoding `foo`"),
        ({"posts": {"source": "bytes.csv"}}, r"bytes.csv: the byte .* is not utf-8\n  Set `posts.encoding`"),
        ({"posts": {"source": "posts.csv", "made_days": 10**14, "time": None}}, r"a.yaml:4: posts.made_days"),
        ({"watch": {"sentiment": "negativ"}}, r"a.yaml:5: watch.sentiment: .*`negativ`\n  Did you mean `negative`"),
    ],
)
def test_a_monitor_names_its_own_keys_before_anything_is_tuned(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    rows = [f"text {at},{('negative', 'positive')[at % 2]},a,{1.7e9 + at}" for at in range(40)]
    (tmp_path / "posts.csv").write_text("\n".join(["text,sentiment,topic,time", *rows]))
    (tmp_path / "bytes.csv").write_bytes(b"text,sentiment,topic,time\nb\x80d,negative,a,1\n")
    part = {"recipe": "quickstart"}
    values = {"type": "monitor", "sentiment": part, "topic": part, "posts": {"source": "posts.csv"}, "watch": {}}
    path = tmp_path / "a.yaml"
    path.write_text("\n".join(f"{key}: {json.dumps(value)}" for key, value in {**values, **changes}.items()))
    with pytest.raises(UserError, match=message):
        build_application(load_application(path), tmp_path / "built")
    assert not (tmp_path / "built").exists()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"method.rank": 2}, "their methods differ"),
        ({"model.dtype": "bfloat16"}, "their bases differ"),
        ({"task.pooling": "mean"}, "their tasks differ"),
    ],
)
def test_adapters_that_cannot_share_a_batch_are_refused_before_they_are_tuned(
    changes: dict[str, Any], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("a part was tuned")

    monkeypatch.setattr("peftlab.assembly.build.run_recipe", never)
    rows = [f"text {at},{('negative', 'positive')[at % 2]},a,{1.7e9 + 9000 * at}" for at in range(40)]
    (tmp_path / "posts.csv").write_text("\n".join(["text,sentiment,topic,time", *rows]))
    values = {
        "type": "monitor",
        "sentiment": {"recipe": "quickstart"},
        "topic": {"recipe": "quickstart", "set": changes},
        "posts": {"source": "posts.csv"},
        "watch": {"sentiment": "negative"},
    }
    path = tmp_path / "a.yaml"
    path.write_text("\n".join(f"{key}: {json.dumps(value)}" for key, value in values.items()))
    with pytest.raises(UserError, match=f"will not share a batch: {told}"):
        build_application(load_application(path), tmp_path / "built")


def test_a_part_takes_what_the_application_sets_and_its_own_keys_come_last(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("type: counting\nfirst:\n  recipe: quickstart\n  set: {task.text: words}\n")
    prepared = {"data.source": "made.csv", "task.text": "text", "task.label": "kind"}
    recipe, document = load_part(load_application(path), "first", prepared)
    assert recipe.data.source == "made.csv"
    assert (recipe.task.text, recipe.task.label) == ("words", "kind")
    assert document.where(("data", "source")) == f"{path}:2: first: data.source"


def test_a_folder_of_another_format_or_of_something_else_is_refused(recipe: Path, tmp_path: Path) -> None:
    folder = tmp_path / "built"
    build_application(load_application(recipe), folder)
    assert open_application(folder)[0].name == "words"
    state = json.loads((folder / STATE_NAME).read_text())
    index = folder / "index.txt"
    whole = index.read_bytes()
    for damage, message in ((lambda: index.write_bytes(whole[:-1]), "is damaged"), (index.unlink, "is missing")):
        damage()
        with pytest.raises(UserError, match=f"index.txt: this file of the application {message}\n  Copy the folder"):
            open_application(folder)
    index.write_bytes(whole)
    assert open_application(folder)[0].name == "words"
    (folder / STATE_NAME).write_text(json.dumps({**state, "format": 99}))
    with pytest.raises(UserError, match="format 99"):
        open_application(folder)
    (folder / STATE_NAME).write_text(json.dumps({**state, "status": "building"}))
    with pytest.raises(UserError, match="not built to the end"):
        open_application(folder)
    (folder / STATE_NAME).write_text("{")
    with pytest.raises(UserError, match="no JSON"):
        open_application(folder)
    with pytest.raises(UserError, match="something else"):
        build_application(load_application(recipe), tmp_path)


def test_the_schema_names_every_application() -> None:
    schema = application_schema()
    assert {choice["$ref"].split("/")[-1] for choice in schema["oneOf"]} == set(APPLICATIONS)
    assert schema["$defs"]["counting"]["properties"]["type"] == {"const": "counting"}


def test_a_site_asks_for_its_token_and_refuses_other_sites_and_large_bodies() -> None:
    site = build_site("words", Hosting("sqlite://", token="secret-token"))

    @site.post("/echo")
    def echo(text: dict[str, str]) -> dict[str, str]:
        return text

    client = TestClient(site, follow_redirects=False)
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.post("/echo", json={"a": "b"}).status_code == 401
    bearer = {"Authorization": "Bearer secret-token"}
    answer = client.post("/echo", json={"a": "b"}, headers=bearer)
    assert answer.json() == {"a": "b"}
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    elsewhere = {**bearer, "Origin": "https://evil.example"}
    assert client.post("/echo", json={"a": "b"}, headers=elsewhere).status_code == 403
    assert client.post("/echo", content=b"x" * 1_000_001, headers=bearer).status_code == 413
    assert client.post("/echo", content=iter([b"x" * 600_000] * 2), headers=bearer).status_code == 413
    assert client.post("/echo", json={"a": 1}, headers=bearer).json()["error"].startswith("a: ")
    refused = client.get("/healthz", headers={"Host": "evil.example"})
    assert refused.status_code == 400
    assert "'evil.example'" in refused.json()["error"]
    assert "--host" in refused.json()["hint"]
    assert "default-src 'none'" in refused.headers["content-security-policy"]
    opened = client.get("/openapi.json?token=secret-token")
    assert opened.status_code == 303
    assert "token" not in opened.headers["location"]
    assert client.get("/openapi.json").status_code == 200  # by the cookie


def test_a_database_keeps_what_was_committed_and_knows_its_owner(tmp_path: Path) -> None:
    url, tables = f"sqlite:///{tmp_path / 'a.db'}", sqlalchemy.MetaData()
    texts = sqlalchemy.Table("texts", tables, sqlalchemy.Column("text", sqlalchemy.Text, primary_key=True))
    database = Database(url, tables, owner="counting", version=1)
    with database.transaction() as connection:
        connection.execute(texts.insert().values(text="kept"))

    for file in tmp_path.iterdir():  # with what SQLite puts beside it
        assert file.stat().st_mode & 0o77 == 0, file

    def lose() -> None:
        with database.transaction() as connection:
            connection.execute(texts.insert().values(text="lost"))
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half"):
        lose()
    with database.transaction() as connection:
        assert [row.text for row in connection.execute(texts.select())] == ["kept"]
    for owner, version in (("other", 1), ("counting", 2)):
        with pytest.raises(UserError, match="the database holds counting, version 1"):
            Database(url, tables, owner=owner, version=version)
    with pytest.raises(UserError, match="no address of a database"):
        Database("nothing", tables, owner="counting", version=1)
    (tmp_path / "b.db").write_text("this is no database at all, but a text")
    with pytest.raises(UserError, match="cannot be used"):
        Database(f"sqlite:///{tmp_path / 'b.db'}", tables, owner="counting", version=1)
    with pytest.raises(StorageError, match="refused"), database.transaction() as connection:
        connection.execute(sqlalchemy.text("SELECT * FROM missing"))

"""Tasks in a row in a suite: each run goes on from the one before, whatever fails or is replaced, and the report tells
what was kept."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import peftlab
from peftlab.bench.cells import expand_cells
from peftlab.bench.execute import Execution, Outcome
from peftlab.bench.executor import Finished
from peftlab.bench.plan import Plan
from peftlab.bench.routing import route_sequences
from peftlab.bench.suite import load_suite
from peftlab.bench.suite_folder import SuiteFolder
from peftlab.cli.app import app
from peftlab.core.errors import ConfigError, PeftlabError, UserError
from peftlab.core.record import Earlier, Routed, RunRecord, read_record, write_record
from peftlab.core.reporter import Silent
from peftlab.inference.routing import route_runs
from peftlab.packs.write_pack import pack_suite
from peftlab.recipe.schema import Recipe, write_recipe
from peftlab.report.document import build_report, report_json
from peftlab.report.page import render_html
from tests.conftest import sentences

pytestmark = pytest.mark.slow

RECIPE = """\
name: tiny
measure: false
model: {{path: {model}}}
task: {{type: text_classification, max_length: 16}}
data: {{source: first, validation_fraction: 0}}
method: {{type: lora, rank: 4, alpha: 8}}
training: {{epochs: 2, batch_size: 16, learning_rate: 1e-2}}
waive_guards: [answers_vary]
"""
SUITE = """\
name: tiny
recipe: recipe.yaml
sequence:
  first: {data.source: first}
  second: {data.source: second}
methods:
  - name: holding
    type: lora
    then: {continues.replay: 0.5, training.regularizers: [{type: ewc, rows: 4}, {type: l2_sp}],
           training.distillation: {teachers: [$earlier], weight: 0.5}}
  - {name: router, type: lora, then: {continues.replay: 0, continues.weights: false}, router: true}
  - {name: apart, type: o_lora, rank: 4, alpha: 8, then: {continues.replay: 0}}
seeds: [3]
tuning: null
"""


@pytest.fixture(scope="module")
def home(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sequence")
    rows = sentences(160, seed=5)
    for at, name in enumerate(("first", "second")):
        (folder / name).mkdir()
        for part, start, end in (("train", 0, 50), ("test", 50, 80)):
            lines = "".join(f"{text},{label}\n" for text, label in rows[80 * at + start : 80 * at + end])
            (folder / name / f"{part}.csv").write_text(f"text,label\n{lines}")
    (folder / "recipe.yaml").write_text(RECIPE.format(model=tiny_bert))
    (folder / "suite.yaml").write_text(SUITE)
    return folder


def planned(home: Path, out: Path, *, suite: str = "suite.yaml") -> Plan:
    return Plan(*load_suite(home / suite), SuiteFolder(out), offline=True, reporter=Silent())


class Stub:
    """Executes nothing, and leaves a record.

    Args:
        failing: Names of cells that fail.
    """

    stopped = False

    def __init__(self, *failing: str) -> None:
        self.failing, self.ran = failing, list[str]()
        self.recipes: dict[str, Recipe] = {}

    def run(self, recipe: Recipe, folder: Path) -> Finished:
        self.ran.append(folder.name)
        self.recipes[folder.name] = recipe
        earlier = None
        if recipe.continues is not None:
            before = read_record(Path(recipe.continues.run))
            times = {"run": before.name, "folder": recipe.continues.run, "started_at": before.started_at}
            earlier = Earlier(**times, weights_sha256="", fingerprint="")
        record = RunRecord(
            name=recipe.name,
            status="failed" if recipe.name in self.failing else "success",
            error="it fails" if recipe.name in self.failing else None,
            recipe=recipe.model_dump(mode="json"),
            earlier=earlier,
            started_at=f"2026-01-01T00:00:00.{len(list(folder.parent.parent.rglob('record.json'))):06}+00:00",
            seconds=1.0,
        )
        folder.mkdir(parents=True, exist_ok=True)
        write_record(record, folder)
        return Finished(record, 1.0)

    def stop(self) -> None: ...


def execute(plan: Plan, executor: Any, *, retry_failed: bool = False) -> Outcome:
    plan.folder.path.mkdir(exist_ok=True)
    return Execution(plan, executor, workers=1, retry_failed=retry_failed, reporter=Silent()).execute()


def test_each_run_goes_on_from_the_one_before(home: Path, tmp_path: Path) -> None:
    plan, stub = planned(home, tmp_path / "out"), Stub()
    assert [cell.name for cell in plan.cells][:2] == ["holding--first", "router--first"]
    assert execute(plan, stub).statuses == {"success": 6}
    assert stub.ran[:2] == ["holding--first--seed3", "holding--second--seed3"]
    first, second = (stub.recipes[f"holding--{task}--seed3"] for task in ("first", "second"))
    folder = str((tmp_path / "out/cells/holding--first--seed3").resolve())
    assert first.continues is None
    assert not first.training.regularizers
    assert (second.continues.run, second.continues.replay) == (folder, 0.5)
    assert second.training.distillation.teachers == [folder]
    assert [each.registered_name for each in second.training.regularizers] == ["ewc", "l2_sp"]
    assert stub.recipes["router--second--seed3"].continues.weights is False
    # O-LoRA keeps the ranks of the run before; what is planned is what has run, so nothing is missing.
    assert stub.recipes["apart--second--seed3"].method.model_dump()["earlier_rank"] == 4
    assert all(run.done for run in planned(home, tmp_path / "out").runs())
    # A folder that has moved is still done.
    (tmp_path / "out").rename(tmp_path / "moved")
    again = Stub()
    execute(planned(home, tmp_path / "moved"), again)
    assert again.ran == []


def test_a_run_that_is_replaced_takes_those_after_it_along(home: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    execute(planned(home, out), Stub())
    shutil.rmtree(out / "cells/router--first--seed3")
    stub = Stub()
    execute(planned(home, out), stub)
    assert stub.ran == ["router--first--seed3", "router--second--seed3"]
    assert len(list((out / "replaced").glob("router--second--seed3-*"))) == 1
    # The first run was made anew by a call that ended before the second.
    record = read_record(out / "cells/router--first--seed3")
    write_record(
        record.model_copy(update={"started_at": "2030-01-01T00:00:00+00:00"}), out / "cells/router--first--seed3"
    )
    stub = Stub()
    execute(planned(home, out), stub)
    assert stub.ran == ["router--second--seed3"]


def test_what_follows_a_failed_run_fails_with_it(home: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    stub = Stub("holding--first")
    assert execute(planned(home, out), stub).statuses == {"failed": 2, "success": 4}
    assert "holding--second--seed3" not in stub.ran
    error = read_record(out / "cells/holding--second--seed3").error
    assert error == "the run before, holding--first: failed"
    stub = Stub()
    assert execute(planned(home, out), stub).statuses == {"failed": 2, "success": 4}
    assert stub.ran == []
    assert execute(planned(home, out), stub, retry_failed=True).statuses == {"success": 6}
    assert stub.ran == ["holding--first--seed3", "holding--second--seed3"]


class Here:
    """Executes in this process."""

    stopped = False

    def run(self, recipe: Recipe, folder: Path) -> Finished:
        folder.mkdir(parents=True)
        write_recipe(recipe, folder / "recipe.yaml")
        result = peftlab.run_recipe(recipe, output_dir=folder, resume=True)
        assert result.record.status == "success", result.record.error
        return Finished(result.record, result.record.seconds)

    def stop(self) -> None: ...


def test_a_real_sequence_with_its_report(home: Path, tmp_path: Path) -> None:
    text = SUITE.replace(next(line for line in SUITE.splitlines(keepends=True) if "o_lora" in line), "")
    (home / "two.yaml").write_text(text)
    plan = planned(home, tmp_path / "out", suite="two.yaml")
    assert execute(plan, Here()).statuses == {"success": 4}
    asked: list[Sequence[Path]] = []

    def route(folders: Sequence[Path]) -> list[Routed]:
        asked.append(folders)
        return route_runs(folders, offline=True, report=print)

    def refuse(folders: Sequence[Path]) -> list[Routed]:
        raise UserError("no answers")

    assert route_sequences(plan, refuse, Silent()) == {"router--second--seed3": "no answers"}
    assert route_sequences(plan, route, Silent()) == {}
    assert route_sequences(plan, route, Silent()) == {}
    assert [[folder.name for folder in folders] for folders in asked] == [
        ["router--first--seed3", "router--second--seed3"]
    ]
    first, second = (read_record(folder) for folder in asked[0])
    # Each row is answered by one of the two runs, and before the second was there by the first alone.
    assert second.routed.before["accuracy"] == pytest.approx(second.earlier.scores["test"]["accuracy"])
    assert second.routed.right.keys() == {"test_earlier_1", "test"}
    bounds = sorted((first.scores["test"]["accuracy"], second.scores["test_earlier_1"]["accuracy"]))
    assert bounds[0] - 0.5 <= second.routed.scores["test_earlier_1"]["accuracy"] <= bounds[1] + 0.5
    assert all(run.done for run in planned(home, tmp_path / "out", suite="two.yaml").runs())

    (found,) = report_json(build_report([tmp_path / "out"]))["sequences"]
    assert found["tasks"] == ["first", "second"]
    holding = found["methods"]["holding"]["matrix"]
    records = [read_record(tmp_path / f"out/cells/holding--{task}--seed3") for task in ("first", "second")]
    assert holding == [
        [records[0].scores["test"]["accuracy"], records[1].earlier.scores["test"]["accuracy"]],
        [records[1].scores["test_earlier_1"]["accuracy"], records[1].scores["test"]["accuracy"]],
    ]
    assert found["methods"]["router"]["matrix"][1][0] == second.routed.scores["test_earlier_1"]["accuracy"]
    assert "forward" in found["methods"]["holding"]["figures"]  # the router's runs have measured the untrained model
    page = render_html(build_report([tmp_path / "out"]))
    assert 'data-matrix="holding"' in page
    packed = pack_suite(tmp_path / "out", lambda folder: None, output=tmp_path / "pack")
    assert report_json(build_report([packed.folder]))["sequences"] == [found]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("tuning: null", "tuning: {trials: 2, learning_rate: [1e-4, 1e-2]}", "is not tuned: write `tuning: null`"),
        ("  second: {data.source: second}\n", "", "two tasks at least"),
        ("second: {", "a--b: {", "cannot name a folder"),
        ("{continues.replay: 0}", "{continues.replai: 0}", "replai"),
        ("{continues.replay: 0}", "{data.source: first}", "is set by the sequence"),
        ("{continues.replay: 0}", "[continues.replay]", "a mapping of keys to values"),
        ("{continues.replay: 0}", "{method.type: bitfit}", "its weights are none of bitfit"),
        ("continues.replay: 0, continues.weights: false", "continues.replay: 0", "a router chooses among runs"),
        ("router: true", "router: 3", "true or false"),
        ("alpha: 8,", "alpha: 8, set: {continues.replay: 0},", "belongs into `then`"),
        ("sequence:\n  first: {data.source: first}\n  second: {data.source: second}\n", "", "has no `sequence`"),
        ("second: {data.source: second}", "second: {data.source: third}", "the class 'joy' of this one"),
    ],
)
def test_a_wrong_sequence_is_told_where(home: Path, tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in SUITE
    shutil.copytree(home, tmp_path / "home")
    third = tmp_path / "home/third"
    third.mkdir()
    for part in ("train", "test"):
        text = (home / "second" / f"{part}.csv").read_text()
        (third / f"{part}.csv").write_text(text.replace(",good\n", ",joy\n", 8))
    (tmp_path / "home/suite.yaml").write_text(SUITE.replace(old, new))
    with pytest.raises(PeftlabError, match=message) as caught:
        planned(tmp_path / "home", tmp_path / "out")
    assert "suite.yaml" in str(caught.value)


NEW_MODEL = "{from_config: {model_type: bert, hidden_size: 16, num_hidden_layers: 1, num_attention_heads: 2}}"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"sequence:": f"set: {{model: {NEW_MODEL}}}\nsequence:", "router, type: lora": "router, type: full"},
            "starts from nothing has no base",
        ),
        (
            {"second: {data.source: second}": "second: {data.source: second/train.csv, data.test_fraction: 0}"},
            "the task second has no test rows",
        ),
    ],
)
def test_what_no_router_could_score_is_refused_beforehand(
    home: Path, tmp_path: Path, changes: dict[str, str], message: str
) -> None:
    shutil.copytree(home, tmp_path / "home")
    text = SUITE
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    (tmp_path / "home/suite.yaml").write_text(text)
    with pytest.raises(PeftlabError, match=message) as caught:
        planned(tmp_path / "home", tmp_path / "out")
    assert "methods.1.router: a router cannot choose" in str(caught.value)


def test_validate_checks_a_suite(home: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["validate", str(home / "suite.yaml"), "--offline"])
    assert done.exit_code == 0, done.output
    assert "valid. A suite; cells: 6, seeds: 1" in done.output
    assert "rows of second: 50 train, 30 test" in done.output
    wrong = home / "wrong.yaml"
    wrong.write_text(SUITE.replace("second: {data.source: second}", "second: {data.source: nowhere}"))
    done = CliRunner().invoke(app, ["validate", str(wrong), "--offline"])
    assert done.exit_code == 2
    assert "nowhere" in done.output
    assert CliRunner().invoke(app, ["validate", str(home / "suite.yaml"), "--set", "seed=1"]).exit_code == 2


def test_a_recipe_that_goes_on_already_begins_no_sequence(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home, tmp_path / "home")
    recipe = tmp_path / "home/recipe.yaml"
    recipe.write_text(recipe.read_text() + "continues: {run: somewhere}\n")
    with pytest.raises(ConfigError, match="begins with a base"):
        expand_cells(*load_suite(tmp_path / "home/suite.yaml"))

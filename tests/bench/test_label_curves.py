"""Label curves in a suite: who gets which rows, what is done again, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner

from peftlab.bench.execute import Execution, Outcome
from peftlab.bench.executor import Finished
from peftlab.bench.plan import Plan
from peftlab.bench.suite import load_suite
from peftlab.bench.suite_folder import SuiteFolder
from peftlab.cli.app import app
from peftlab.core.errors import DataError, PeftlabError
from peftlab.core.record import RunRecord, read_record, write_record
from peftlab.core.reporter import Silent
from peftlab.core.selection import Strategy
from peftlab.recipe.schema import Recipe, write_recipe
from tests.conftest import sentences

pytestmark = pytest.mark.slow

RECIPE = """\
name: tiny
measure: false
model: {{path: {model}}}
task: {{type: text_classification, max_length: 16}}
data: {{source: rows, validation_fraction: 0}}
method: {{type: lora, rank: 4, alpha: 8}}
training: {{epochs: 1, batch_size: 8, learning_rate: 1e-2}}
waive_guards: [answers_vary]
"""
SUITE = """\
name: tiny
recipe: recipe.yaml
set: {task.known_classes: [bad, good]}
labels: [8, 12, 20]
methods:
  - {name: chance, type: lora, select: {type: random}}
  - {name: margin, type: lora, select: {type: margin, candidates: 1}}
seeds: [3, 4]
tuning: null
"""


@pytest.fixture(scope="module")
def home(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("labels")
    (folder / "rows").mkdir()
    rows = sentences(90, seed=5)
    for part, start, end in (("train", 0, 60), ("test", 60, 90)):
        lines = "".join(f"{text},{label}\n" for text, label in rows[start:end])
        (folder / "rows" / f"{part}.csv").write_text(f"text,label\n{lines}")
    labels = sorted({label for _, label in rows})
    (folder / "recipe.yaml").write_text(RECIPE.format(model=tiny_bert))
    (folder / "suite.yaml").write_text(SUITE.replace("[bad, good]", json.dumps(labels)))
    return folder


def planned(home: Path, out: Path, suite: str = "suite.yaml") -> Plan:
    return Plan(*load_suite(home / suite), SuiteFolder(out), offline=True, reporter=Silent())


class Stub:
    """Executes nothing, and leaves a record."""

    stopped = False

    def __init__(self) -> None:
        self.ran = list[str]()
        self.rows: dict[str, list[int]] = {}

    def run(self, recipe: Recipe, folder: Path) -> Finished:
        self.ran.append(folder.name)
        assert recipe.data is not None
        assert recipe.data.train_rows is not None
        self.rows[folder.name] = recipe.data.train_rows
        record = RunRecord(
            name=recipe.name,
            status="success",
            recipe=recipe.model_dump(mode="json"),
            started_at="2026-01-01T00:00:00+00:00",
            seconds=1.0,
        )
        folder.mkdir(parents=True, exist_ok=True)
        write_recipe(recipe, folder / "recipe.yaml")
        write_record(record, folder)
        return Finished(record, 1.0)

    def stop(self) -> None:
        raise AssertionError("nothing stops here")


class Chooser:
    """Chooses the rows of the lowest numbers that are left.

    Args:
        failing: Name of the run's folder for which it fails.
    """

    def __init__(self, failing: str = "") -> None:
        self.failing, self.asked = failing, list[tuple[str, str, int]]()

    def __call__(self, folder: Path, strategy: Strategy, count: int, seed: int) -> Sequence[int]:
        self.asked.append((folder.name, strategy.registered_name, count))
        if folder.name == self.failing:
            raise DataError("it has no weights", where=str(folder))
        known = read_record(folder).recipe["data"]["train_rows"]
        return [row for row in range(60) if row not in known][:count]


def execute(home: Path, out: Path, *, stub: Stub, choose: Chooser, retry_failed: bool = False) -> Outcome:
    return Execution(
        planned(home, out), stub, workers=2, retry_failed=retry_failed, reporter=Silent(), choose_rows=choose
    ).execute()


def test_rows_go_on_from_the_run_before(home: Path, tmp_path: Path) -> None:
    stub, choose = Stub(), Chooser()
    assert execute(home, tmp_path, stub=stub, choose=choose).statuses == {"success": 12}
    for seed in (3, 4):
        first = stub.rows[f"chance--labels-8--seed{seed}"]
        assert stub.rows[f"margin--labels-8--seed{seed}"] == first
        for name in ("chance", "margin"):
            few, more, most = (stub.rows[f"{name}--labels-{labels}--seed{seed}"] for labels in (8, 12, 20))
            assert (len(few), len(more), len(most)) == (8, 12, 20)
            assert more[:8] == few
            assert most[:12] == more
            assert len(set(most)) == 20
    assert set(stub.rows["chance--labels-8--seed3"]) != set(stub.rows["chance--labels-8--seed4"])
    assert sorted(choose.asked) == sorted(
        (f"{name}--labels-{labels}--seed{seed}", strategy, count)
        for name, strategy in (("chance", "random"), ("margin", "margin"))
        for labels, count in ((8, 4), (12, 8))
        for seed in (3, 4)
    )


def test_what_is_done_is_not_chosen_again_and_what_hangs_on_another_run_is(home: Path, tmp_path: Path) -> None:
    execute(home, tmp_path, stub=Stub(), choose=Chooser())
    stub, choose = Stub(), Chooser()
    execute(home, tmp_path, stub=stub, choose=choose)
    assert (stub.ran, choose.asked) == ([], [])
    shutil.rmtree(tmp_path / "cells" / "margin--labels-12--seed4")
    execute(home, tmp_path, stub=stub, choose=choose)
    assert stub.ran == ["margin--labels-12--seed4", "margin--labels-20--seed4"]
    assert [name for name, _, _ in choose.asked] == ["margin--labels-8--seed4", "margin--labels-12--seed4"]


def test_a_choice_that_fails_is_a_failed_run_and_so_is_what_follows(home: Path, tmp_path: Path) -> None:
    stub, choose = Stub(), Chooser(failing="margin--labels-8--seed3")
    outcome = execute(home, tmp_path, stub=stub, choose=choose)
    assert outcome.statuses == {"success": 10, "failed": 2}
    error = read_record(tmp_path / "cells" / "margin--labels-12--seed3").error or ""
    assert "no rows could be chosen" in error
    assert "it has no weights" in error
    assert "margin--labels-12: failed" in (read_record(tmp_path / "cells" / "margin--labels-20--seed3").error or "")
    again = execute(home, tmp_path, stub=stub, choose=Chooser(), retry_failed=True)
    assert again.statuses == {"success": 12}


def test_real_runs_choose_and_the_report_and_a_pack_know_it(
    home: Path, tmp_path: Path, forked_runs: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home)
    small = (home / "suite.yaml").read_text().replace("[8, 12, 20]", "[8, 12]").replace("[3, 4]", "[3]")
    (home / "small.yaml").write_text(small)
    out, run = tmp_path / "out", CliRunner().invoke
    arguments = ["bench", "small.yaml", "--output-dir", str(out), "--offline", "--threads", "1", "--device", "cpu"]
    assert run(app, arguments).exit_code == 0
    rows = {
        name: read_record(out / "cells" / name).recipe["data"]["train_rows"]
        for name in ("chance--labels-12--seed3", "margin--labels-12--seed3")
    }
    first, second = rows.values()
    assert first[:8] == second[:8]
    assert first != second
    record = read_record(out / "cells" / "margin--labels-12--seed3")
    assert record.data is not None
    assert record.data.rows == {"train": 12, "test": 30}
    shown = json.loads(run(app, ["report", str(out), "--json"]).stdout)
    (curves,) = shown["label_curves"]
    assert curves["chance"] == "chance"
    assert curves["methods"]["margin"]["scores"]["12"] == {"3": record.scores["test"]["accuracy"]}
    assert run(app, ["pack", str(out)]).exit_code == 0
    dry = json.loads(run(app, [*arguments, "--dry-run", "--json"]).stdout)
    assert (dry["missing"], dry["done"]) == (0, 4)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("labels: [8, 12, 20]", "labels: [20, 8]", "two growing numbers are needed"),
        ("labels: [8, 12, 20]", "labels: [8]", "two growing numbers are needed"),
        ("labels: [8, 12, 20]", "labels: [8, 61]", "61 are to have a label"),
        ("labels: [8, 12, 20]\n", "", "the suite has no `labels`"),
        ("tuning: null", "tuning: {trials: 2, learning_rate: [1e-4, 1e-2]}", "a suite with `labels` is not tuned"),
        (", select: {type: random}", "", "needs `select` in each method"),
        ("{type: random}", "{type: chance}", "unknown strategy `chance`"),
        ("candidates: 1", "candidate: 1", "candidate"),
        ("set: {", "set: {data.max_train_examples: 5, ", "`labels` says how many rows there are"),
        ("set: {", "set: {data: {source: rows, max_train_examples: 5}, ", "set.data.max_train_examples"),
        ("set: {", "set: {data.draw_seed: 5, ", "`data.draw_seed` cannot be set here"),
        ("tuning: null", "tuning: null\nsequence: {a: {}, b: {}}", "`labels` or a `sequence`"),
        ("tuning: null", "tuning: null\nresample_train: true", "each seed draws its rows anyway"),
    ],
)
def test_what_cannot_be_is_refused(home: Path, tmp_path: Path, old: str, new: str, told: str) -> None:
    text = (home / "suite.yaml").read_text()
    assert old in text
    (home / "wrong.yaml").write_text(text.replace(old, new))
    with pytest.raises(PeftlabError, match=told) as caught:
        planned(home, tmp_path, "wrong.yaml")
    assert "wrong.yaml" in str(caught.value)


def test_how_the_recipe_draws_its_rows_says_nothing_here(home: Path, tmp_path: Path) -> None:
    recipe = (home / "recipe.yaml").read_text()
    (home / "drawn.yaml").write_text(
        recipe.replace("source: rows", "source: rows, max_train_examples: 9, draw_seed: 5")
    )
    (home / "other.yaml").write_text((home / "suite.yaml").read_text().replace("recipe.yaml", "drawn.yaml"))
    ours, theirs = (planned(home, tmp_path / name, name) for name in ("suite.yaml", "other.yaml"))
    first = [[run.recipe for run in plan.runs() if run.recipe.data.train_rows] for plan in (ours, theirs)]
    assert len(first[0]) == 4
    assert first[0] == first[1]


def test_a_strategy_that_needs_probabilities_is_refused_for_a_task_without_them(home: Path, tmp_path: Path) -> None:
    text = (home / "suite.yaml").read_text()
    assert "set: {task.known_classes" in text
    line = next(line for line in text.splitlines() if line.startswith("set:"))
    (home / "wrong.yaml").write_text(text.replace(line, "set: {task: {type: text_regression}}"))
    with pytest.raises(PeftlabError, match=r"wrong.yaml.*margin.*probability of each class"):
        planned(home, tmp_path, "wrong.yaml")

"""A suite does not go on over other data: its finished runs are known by their recipes, which stay the same."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from peftlab.bench.execute import Execution, Outcome
from peftlab.bench.plan import Plan
from peftlab.bench.suite import load_suite
from peftlab.bench.suite_folder import SuiteFolder
from peftlab.cli.app import app
from peftlab.core.errors import UserError
from peftlab.core.reporter import Silent
from peftlab.packs.layout import SUITE_DATA_NAME
from peftlab.packs.write_pack import pack_suite
from tests.bench.test_suite_sequences import RECIPE, Stub

pytestmark = pytest.mark.slow

SUITE = """\
name: tiny
recipe: recipe.yaml
methods: [{type: bitfit}]
axes: {data: {few: {data.max_train_examples: 20}, all: {data.max_train_examples: null}}}
seeds: [3]
tuning: null
"""


@pytest.fixture
def home(tiny_bert: Path, reviews: Path, tmp_path: Path) -> Path:
    table = shutil.copy(reviews, tmp_path / "rows.csv")
    text = RECIPE.format(model=tiny_bert).replace("source: first, validation_fraction: 0", f"source: {table}")
    (tmp_path / "recipe.yaml").write_text(text)
    (tmp_path / "suite.yaml").write_text(SUITE)
    (tmp_path / "out").mkdir()
    return tmp_path


def execute(home: Path, stub: Stub) -> Outcome:
    plan = Plan(*load_suite(home / "suite.yaml"), SuiteFolder(home / "out"), offline=True, reporter=Silent())
    return Execution(plan, stub, workers=1, retry_failed=False, reporter=Silent()).execute()


def test_a_suite_does_not_go_on_over_other_data(home: Path) -> None:
    stub, written = Stub(), home / "out" / SUITE_DATA_NAME
    assert execute(home, stub).statuses == {"success": 2}
    before = written.read_bytes()
    (home / "suite.yaml").write_text(SUITE.replace("seeds: [3]", "seeds: [3, 4]"))
    assert execute(home, stub).runs_done == 2
    assert written.read_bytes() == before
    with (home / "rows.csv").open("a") as table:
        table.write("a wholly new row,good\n")
    with pytest.raises(UserError, match=r"the data have changed since the suite was begun, at (few|all)"):
        execute(home, stub)
    # Data that the suite names newly are others, and no finished run has learned them.
    shutil.move(home / "rows.csv", home / "more.csv")
    recipe = home / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("rows.csv", "more.csv"))
    assert execute(home, stub).runs_done == 4


def test_a_dry_run_says_so_too_of_a_folder_and_of_a_pack(home: Path) -> None:
    assert execute(home, Stub()).statuses == {"success": 2}
    pack_suite(home / "out", lambda folder: None, output=home / "pack")

    def dry_run(folder: Path) -> Any:
        words = ["bench", str(home / "suite.yaml"), "--output-dir", str(folder), "--dry-run", "--offline"]
        before = contents(folder)
        done = CliRunner().invoke(app, words)
        assert contents(folder) == before
        return done

    for folder in (home / "out", home / "pack"):
        assert dry_run(folder).exit_code == 0
    with (home / "rows.csv").open("a") as table:
        table.write("a wholly new row,good\n")
    for folder in (home / "out", home / "pack"):
        done = dry_run(folder)
        assert done.exit_code == 2
        assert f"Error: {folder}: the data have changed since the suite was begun" in done.stderr


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

"""Runs that a program starts with objects in its hands."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from conftest import sentences

import peftlab
from peftlab import Recipe, RunResult, run_recipe
from peftlab.core.errors import UserError
from peftlab.run.reproduce.rerun import reproduce

ROWS = [{"text": text, "label": label} for text, label in sentences(80)]


@pytest.fixture(scope="module")
def recipe_of(tiny_bert: Path) -> Callable[..., Recipe]:
    def make(source: Any = ROWS, *, data: dict[str, Any] | None = None, **sections: Any) -> Recipe:
        values = {
            "model": {"path": tiny_bert},
            "task": {"type": "text_classification", "max_length": 32},
            "data": {"source": source, "validation_fraction": 0.2, **(data or {})},
            "method": {"type": "lora", "rank": 4},
            "training": {"max_steps": 4, "batch_size": 8, "learning_rate": 2e-2},
            "evaluation": {"every": 2},
            "measure": False,
            "waive_guards": ["answers_vary"],
        }
        return Recipe.from_dict({**values, **sections})

    return make


@pytest.fixture(scope="module")
def of_rows(recipe_of: Callable[..., Recipe], tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """A run of a list of dicts."""
    return run_recipe(recipe_of(), output_dir=tmp_path_factory.mktemp("runs") / "run")


def test_a_run_says_that_its_rows_came_from_python(of_rows: RunResult) -> None:
    assert of_rows.record.status == "success", of_rows.record.error
    source = of_rows.record.recipe["data"]["source"]
    assert source.startswith("python:rows=80#sha256=")
    assert source in (of_rows.folder / "recipe.yaml").read_text()
    assert of_rows.record.data is not None
    assert sum(of_rows.record.data.rows.values()) == 80


def test_the_same_rows_in_a_file_or_a_frame_are_the_same_data(
    of_rows: RunResult, recipe_of: Callable[..., Recipe], tmp_path: Path
) -> None:
    frame = pd.DataFrame(ROWS)
    frame.to_csv(tmp_path / "rows.csv", index=False)
    records = [
        run_recipe(recipe_of(source), output_dir=tmp_path / name).record
        for name, source in (("frame", frame), ("file", tmp_path / "rows.csv"))
    ]
    assert [record.data for record in records] == [of_rows.record.data] * 2
    assert [record.scores for record in records] == [of_rows.record.scores] * 2


def test_a_run_goes_on_with_the_same_rows_alone(of_rows: RunResult, recipe_of: Callable[..., Recipe]) -> None:
    again = run_recipe(recipe_of(pd.DataFrame(ROWS)), output_dir=of_rows.folder, resume=True)
    assert again.record == of_rows.record
    with pytest.raises(UserError, match=r"data.source was 'python:rows=80#.*is 'python:rows=79#"):
        run_recipe(recipe_of(ROWS[:-1]), output_dir=of_rows.folder, resume=True)


def test_without_the_rows_a_run_says_what_it_needs(of_rows: RunResult, tmp_path: Path) -> None:
    needed = r"data.source: `python:rows=80#.*given in Python; no file holds them\n.*the same rows as data.source"
    with pytest.raises(UserError, match=needed):
        run_recipe(*peftlab.load_recipe(of_rows.folder / "recipe.yaml"), output_dir=of_rows.folder, resume=True)
    with pytest.raises(UserError, match=needed):
        reproduce(of_rows.folder, output_dir=tmp_path / "again")


def test_rows_are_checked_like_those_of_a_file(recipe_of: Callable[..., Recipe], tmp_path: Path) -> None:
    odd = [*ROWS[:5], {"text": 3, "label": "good"}, *ROWS[5:]]
    for source, message in (
        ([{"text": row["text"]} for row in ROWS], r"data: list of dicts: there is no column `label`"),
        (pd.DataFrame(ROWS).drop(columns="text"), r"data: pandas DataFrame: there is no column `text`"),
        (odd, r"data: list of dicts, row 6: the column `text` is no text: 3"),
        ({"train": ROWS, "test": odd}, r"list of dicts \(data.source.test\), row 6: .* is no text"),
    ):
        with pytest.raises(UserError, match=message):
            run_recipe(recipe_of(source), output_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()

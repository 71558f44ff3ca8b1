"""Rows that a program gives: every kind of object becomes the same table."""

from __future__ import annotations

from typing import Any

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from peftlab.core.errors import ConfigError, PeftlabError
from peftlab.data.data_config import DataConfig, SplitSources
from peftlab.data.given import given_rows
from peftlab.data.sources import load_tables

ROWS = [{"text": f"text {number}", "label": "good" if number % 2 else "bad", "year": number} for number in range(6)]


def a_dataset(rows: list[dict[str, Any]]) -> datasets.Dataset:
    """With classes as the Hub keeps them: numbers that have names."""
    return datasets.Dataset.from_list(rows).cast_column("label", datasets.ClassLabel(names=["bad", "good"]))


@pytest.mark.parametrize(
    "source",
    [
        ROWS,
        pd.DataFrame(ROWS),
        pd.DataFrame(ROWS).astype({"label": "category"}).set_index(np.arange(10, 16)),
        pa.Table.from_pylist(ROWS),
        a_dataset(ROWS),
        a_dataset(list(reversed(ROWS))).select(range(5, -1, -1)),
    ],
    ids=["list", "frame", "categories", "arrow", "dataset", "selected"],
)
def test_every_kind_is_the_same_table(source: Any) -> None:
    given = given_rows(source, where="data.source")
    assert given == given_rows(ROWS, where="data.source")
    assert given.address.startswith("python:rows=6#sha256=")
    table = load_tables(DataConfig(source=given), keep=["text", "label"])["train"]
    assert (table.names, len(table)) == (("text", "label", "year"), 6)
    assert table.columns == {"text": [row["text"] for row in ROWS], "label": [row["label"] for row in ROWS]}


def test_a_change_of_one_cell_shows_in_the_address() -> None:
    changed = [*ROWS[:5], {**ROWS[5], "year": 7}]
    assert given_rows(changed, where="").address != given_rows(ROWS, where="").address


def test_what_the_program_does_to_its_object_later_changes_nothing() -> None:
    frame = pd.DataFrame(ROWS)
    given = given_rows(frame, where="data.source")
    frame.loc[0, "text"] = "another"
    assert given.tables[""]["text"][0] == "text 0"


def test_cells_are_those_of_a_json_file() -> None:
    values = [np.float64(1.5), np.int32(2), float("nan"), pd.NA, pd.NaT, np.array(["a", "b"]), ("c",), {1: np.nan}]
    (column,) = given_rows([{"x": value} for value in values], where="").tables[""].values()
    assert column == [1.5, 2, None, None, None, ["a", "b"], ["c"], {"1": None}]
    assert [type(value) for value in column[:2]] == [float, int]


def test_splits_have_the_names_of_the_object() -> None:
    splits = datasets.DatasetDict(train=a_dataset(ROWS), dev=a_dataset(ROWS[:2]))
    given = given_rows(splits, where="data.source")
    assert given.address.startswith("python:train=6,dev=2#sha256=")
    tables = load_tables(DataConfig(source=given))
    assert {name: len(table) for name, table in tables.items()} == {"train": 6, "validation": 2}
    renamed = load_tables(DataConfig(source=given, splits={"train": "dev", "test": "train"}))
    assert {name: len(table) for name, table in renamed.items()} == {"train": 2, "test": 6}


def test_each_split_may_be_an_object_of_its_own() -> None:
    source = SplitSources(train=given_rows(ROWS, where=""), test=given_rows(pd.DataFrame(ROWS[:3]), where=""))
    tables = load_tables(DataConfig(source=source))
    assert {name: len(table) for name, table in tables.items()} == {"train": 6, "test": 3}
    assert tables["test"].name == "pandas DataFrame (data.source.test)"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (3, r"data.source: an address or rows are needed, not 3\n  Rows are a list of dicts"),
        ({1, 2}, r"not {1, 2}\n  Make it a list"),
        ((row for row in ROWS), "Make it a list"),
        ([], "there are no rows"),
        ([{}, {}], "there are no rows"),
        (["a", "b"], "row 1 is 'a'; a row is a dict"),
        ([*ROWS, None], "row 7 is None"),
        (pd.DataFrame({"text": []}), "there are no rows"),
        (pd.DataFrame([["a", "b"]], columns=["text", "text"]), "two columns `text`"),
        (pa.table([pa.array(["a"]), pa.array(["b"])], names=["text", "text"]), "two columns `text`"),
        (datasets.DatasetDict(), "there are no splits"),
        (datasets.DatasetDict(train=datasets.Dataset.from_list([])), "no rows in the split train"),
    ],
)
def test_what_is_no_table_is_refused(value: Any, message: str) -> None:
    with pytest.raises(PeftlabError, match=message) as caught:
        given_rows(value, where="data.source")
    assert caught.value.where == "data.source"


@pytest.mark.parametrize("key", [{"encoding": "latin-1"}, {"format": "csv"}, {"header": False}, {"subset": "sst2"}])
def test_keys_of_files_do_not_go_with_rows(key: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="the rows are given as a list of dicts") as caught:
        load_tables(DataConfig(source=given_rows(ROWS, where=""), **key))
    assert caught.value.where == f"data.{next(iter(key))}"


def test_a_schema_knows_nothing_of_objects() -> None:
    choices = DataConfig.model_json_schema()["properties"]["source"]["oneOf"]
    assert choices == [{"type": "string"}, {"$ref": "#/$defs/SplitSources"}]

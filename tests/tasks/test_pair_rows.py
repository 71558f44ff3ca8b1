"""Rows of pairs that a model would learn nothing from are told before it learns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from peftlab.core.errors import DataError
from peftlab.core.image_file import ImageFile
from peftlab.core.splits import Split
from peftlab.core.task import TASKS


def rows(count: int = 4, **columns: Any) -> Split:
    return Split("train", range(count), columns, "rows.jsonl")


QUERIES, DIFFERENT = [f"query {at}" for at in range(4)], ["a", "b", "c", "d"]


@pytest.mark.parametrize(
    ("task", "columns", "told"),
    [
        ({}, {"query": QUERIES, "document": ["one", "One", " one", "ONE"]}, "`document` holds the same"),
        (
            {"score": "s", "objective": "cosent"},
            {"query": QUERIES, "document": DIFFERENT, "s": [1, 1.0, "1", 1]},
            "`s` holds the same",
        ),
        (
            {"type": "image_text_embedding"},
            {"image": [ImageFile.of(each.encode()) for each in DIFFERENT], "text": ["one"] * 4},
            "`text` holds the same",
        ),
        (
            {"type": "image_text_embedding"},
            {"image": [ImageFile.of(b"one")] * 4, "text": DIFFERENT},
            "`image` holds the same",
        ),
        (
            {"type": "reranking"},
            {"query": QUERIES, "document": [["a", "b"]] * 4, "label": [[1.0, 1.0]] * 4},
            "every tr",
        ),
        (
            {"type": "reranking"},
            {"query": QUERIES, "document": [["a", "b"]] * 4, "label": [[0.0, 0.0]] * 4},
            "no train",
        ),
        (
            {"type": "reranking"},
            {"query": QUERIES, "document": [["a"]] * 4, "label": [[0.0], [1.0]] * 2},
            "one that does not",
        ),
    ],
)
def test_rows_with_nothing_to_tell_apart_are_refused(task: dict[str, Any], columns: dict[str, Any], told: str) -> None:
    keys = dict(task)
    cls = TASKS[keys.pop("type", "text_embedding")]
    keys |= {"label": "label"} if cls.registered_name == "reranking" else {}
    with pytest.raises(DataError, match=told):
        cls(**keys).learn(rows(**columns))


def test_one_document_is_told_from_negatives_of_its_own() -> None:
    task = TASKS["text_embedding"](negatives=["wrong"])
    assert task.learn(rows(query=QUERIES, document=["one"] * 4, wrong=DIFFERENT)) == {}


def test_pairs_of_one_text_and_targets_of_two_values_are_said() -> None:
    pairs = rows(query=QUERIES, document=[QUERIES[0].upper(), *DIFFERENT[1:]])
    (line,) = TASKS["text_embedding"]().notices({"train": pairs}, ()).values()
    assert line.startswith("1 row has the same text as query and as document")
    task = TASKS["text_regression"](label="price")
    for prices, told in (([True, False, 1, 0], 1), ([0, 1, 2, 1], 0)):
        split = rows(text=DIFFERENT, price=prices)
        learned = task.model_copy()
        learned.learned.update(task.learn(split))
        assert (
            sum("0 or 1: if these are classes" in line for line in learned.notices({"train": split}, ()).values())
            == told
        )


def test_what_is_no_number_and_no_file_is_said_how_to_write(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"'\$5' in column `price` is not a finite number\n.*digits alone"):
        TASKS["text_regression"](label="price").learn(rows(text=DIFFERENT, price=["$5", "1", "2", "3"]))
    with pytest.raises(DataError, match="Images are files: fetch them first"):
        ImageFile.at("https://a.example/1.png", tmp_path).read(where="row 1")


@pytest.mark.parametrize(
    ("task", "keys"),
    [
        ("text_classification", {"text": "label"}),  # it would read its own answer
        ("text_classification", {"text": "a", "label": ["b", "a"]}),
        ("text_regression", {"text": ["a", "label"]}),
        ("text_regression", {"text": ["a", "a"]}),
        ("text_pair_classification", {"text": ["a", "a"]}),
    ],
)
def test_no_column_is_read_twice(task: str, keys: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="`text` and `label` must name different columns"):
        TASKS[task](**({"label": "label"} | keys))

"""Pruning: which training rows are left out, that the list and the record say so, and that a stopped run ends the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

import peftlab
from peftlab.core.errors import UserError
from peftlab.core.splits import Split
from peftlab.data.augmenting import join_rows
from peftlab.data.pruning import Pruning, folds_of
from peftlab.data.splits import LoadedData, summarise_splits
from peftlab.run import stages
from peftlab.run.pruning import _left, _others
from peftlab.statistics.label_errors import suspected_labels
from tests.conftest import sentences

pytestmark = pytest.mark.slow

ROWS = sentences(64)


@pytest.fixture
def recipe(tiny_bert: Path, tmp_path: Path) -> Any:
    table = tmp_path / "rows.csv"
    table.write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in ROWS))
    test = tmp_path / "test.csv"
    test.write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in sentences(24, seed=5)))

    def make(**data: Any) -> peftlab.Recipe:
        return peftlab.Recipe.from_dict(
            {
                "name": "pruned",
                "measure": False,
                "model": {"path": str(tiny_bert)},
                "task": {"type": "text_classification", "max_length": 32, **data.pop("task", {})},
                "data": {"source": {"train": str(table), "test": str(test)}, "validation_fraction": 0.0, **data},
                "method": {"type": "lora", "rank": 4},
                "training": {"max_steps": 8, "batch_size": 16, "learning_rate": 2e-2},
                "waive_guards": ["answers_vary"],
            }
        )

    return make


def test_suspicious_rows_are_left_out_and_a_stopped_run_ends_the_same(
    recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_second_run: Callable[[], list[str]]
) -> None:
    made = recipe(
        prune={"by": "probability", "share": 0.05, "folds": 2},
        augmentation=[{"type": "token_swap", "probability": 0.5}],
    )
    seen: dict[str, Any] = {}
    real = stages._run_stages

    def look(run: Any) -> None:
        seen[run.folder.path.name] = run.checked.data.splits
        real(run)

    monkeypatch.setattr(stages, "_run_stages", look)
    done = peftlab.run_recipe(made, output_dir=tmp_path / "run")
    assert done.record.status == "success", done.record.error
    listed = [json.loads(line) for line in (done.folder / "pruned.jsonl").read_text().splitlines()]
    out = {row["row"] - 1 for row in listed}
    assert [(row["text"], row["label"]) for row in listed] == [ROWS[row["row"] - 1] for row in listed]
    # The folds were asked, and the labels that they find least likely are those of the list, in this order.
    said = [
        row for fold in "12" for row in pq.read_table(done.folder / f"pruning/{fold}/predictions.parquet").to_pylist()
    ]
    said.sort(key=lambda row: row["scores"][done.record.labels.index(row["label"])])
    assert [row["index"] + 1 for row in said[:3]] == [row["row"] for row in listed]
    (note,) = done.record.data.notes["pruning"]
    assert (note["rows_left_out"], note["of"], sum(note["by_class"].values())) == (3, 64, 3)
    assert done.record.data.rows == {"train": 64, "test": 24}

    # A row goes with the copies that were made of it, and no fold learns what it is asked about.
    assert not out & set(seen["run"]["train"].index)
    assert set(range(64)) - out == set(seen["run"]["train"].index)
    asked = [set(seen[fold]["test"].index) for fold in "12"]
    assert asked[0] | asked[1] == set(range(64))
    assert not asked[0] & asked[1]
    assert all(not asked[at] & set(seen[fold]["train"].index) for at, fold in enumerate("12"))
    assert not list((done.folder / "pruning").glob("*/adapter"))

    calls = stop_second_run()
    assert peftlab.run_recipe(made, output_dir=tmp_path / "stopped").record.status == "cancelled"
    again = peftlab.run_recipe(made, output_dir=tmp_path / "stopped", resume=True)
    assert calls == ["1", "2", "2", "stopped"]
    assert again.record.scores == done.record.scores
    assert again.record.data == done.record.data


def test_rows_of_an_earlier_run_that_have_the_number_of_one_that_is_left_out_stay() -> None:
    def rows(name: str, index: list[int]) -> Split:
        return Split("train", index, {"text": [f"{name} {at}" for at in index]})

    own, again, copies = rows("new", [0, 1, 2]), rows("earlier", [1, 2]), rows("copy", [2, 1])
    summary = summarise_splits({"train": own}).model_copy(update={"notes": {"rows_replayed": 2}})
    data = LoadedData({"train": join_rows([own, again, copies])}, summary)
    left = _left(data, [1], {"rows_left_out": 1})
    assert left.splits["train"].columns["text"] == ["new 0", "new 2", "earlier 1", "earlier 2", "copy 2"]
    assert _others(data, [0, 2]) == [1, 3, 4, 6]


def test_of_no_class_more_than_half_is_left_out() -> None:
    labels = np.array([0] * 6 + [1] * 4)
    probabilities = np.tile([0.9, 0.1], (10, 1))  # a model that does not know the second class
    suspicious = Pruning(by="probability", share=0.45).chosen(labels, probabilities)
    assert sorted(labels[suspicious].tolist()) == [0, 0, 1, 1]
    draws = np.random.default_rng(0)
    mixed = draws.dirichlet([1, 1], size=200)
    given = draws.integers(0, 2, 200)
    found = suspected_labels(given, mixed).tolist()
    assert Pruning().chosen(given, mixed) == found
    assert Pruning(share=0.1).chosen(given, mixed) == found[:20]


def test_folds_are_even_in_each_class() -> None:
    classes = np.array([0] * 41 + [1] * 22 + [2] * 3)
    folds = folds_of(classes, 4, seed=1)
    for name in range(3):
        counts = np.bincount(folds[classes == name], minlength=4)
        assert counts.max() - counts.min() <= 1
    assert np.ptp(np.bincount(folds)) <= 1
    assert (folds == folds_of(classes, 4, seed=1)).all()
    assert not (folds == folds_of(classes, 4, seed=2)).all()


def test_equal_texts_are_in_one_fold() -> None:
    """Else, without `data.deduplicate`, a run has learned the label of what it is asked about."""
    classes = np.array([0, 1] * 20)
    keys = [b"%d" % (at % 15) for at in range(40)]
    folds = folds_of(classes, 4, 1, keys)
    assert set(folds) == {0, 1, 2, 3}
    for key in set(keys):
        assert len({fold for fold, own in zip(folds, keys, strict=True) if own == key}) == 1
    assert (folds_of(classes, 4, 1, [b"%d" % at for at in range(40)]) == folds_of(classes, 4, 1)).all()


def test_bad_input_gets_a_message(recipe, tmp_path: Path) -> None:
    def refused(expected: str, **data: Any) -> None:
        with pytest.raises(UserError, match=expected):
            peftlab.run_recipe(recipe(**data), output_dir=tmp_path / "bad")
        assert not (tmp_path / "bad").exists()

    refused("needs a `share`", prune={"by": "probability"})
    refused("too few for 20 folds", prune={"folds": 20}, max_train_examples=30)
    refused("one label a text", prune={}, task={"multi_label": True})

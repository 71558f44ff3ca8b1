"""Texts without labels: which are left out, what teachers add, and that a stopped run ends the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import peftlab
from peftlab.core.errors import UserError
from peftlab.core.task import Prediction
from peftlab.data.duplicates import text_key
from peftlab.data.notices import describe_notes
from peftlab.preparation.load_data import load_data
from peftlab.run import self_training
from peftlab.training.self_training import surest
from tests.conftest import sentences

pytestmark = pytest.mark.slow

ROWS = sentences(160)
TRAIN, TEST, POOL = ROWS[:24], ROWS[24:64], ROWS[64:]


@pytest.fixture
def recipe(tiny_bert: Path, tmp_path: Path) -> Any:
    for name, rows in (("train", TRAIN), ("test", TEST)):
        (tmp_path / f"{name}.csv").write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in rows))
    texts = [text for text, _ in POOL] + [TRAIN[0][0], TEST[0][0].upper(), f"{TEST[1][0]}!", POOL[0][0], " "]
    (tmp_path / "pool.csv").write_text("text\n" + "".join(f'"{text}"\n' for text in texts))

    def make(*, task: dict[str, Any] | None = None, **training: Any) -> peftlab.Recipe:
        return peftlab.Recipe.from_dict(
            {
                "name": "few",
                "measure": False,
                "model": {"path": str(tiny_bert)},
                "task": {"type": "text_classification", "max_length": 32, **(task or {})},
                "data": {
                    "source": {name: str(tmp_path / f"{file}.csv") for name, file in SOURCES.items()},
                    "validation_fraction": 0.0,
                },
                "method": {"type": "lora", "rank": 4},
                "training": {"max_steps": 12, "batch_size": 8, "learning_rate": 2e-2, **training},
                "waive_guards": ["answers_vary"],
            }
        )

    return make


SOURCES = {"train": "train", "test": "test", "unlabeled": "pool"}


def test_teachers_add_what_they_are_surest_of(recipe, tmp_path: Path, stop_second_run: Callable[[], list[str]]) -> None:
    taught = recipe(self_training={"rounds": 2, "share": 0.5})
    done = peftlab.run_recipe(taught, output_dir=tmp_path / "run")
    assert done.record.status == "success", done.record.error
    data, notes = done.record.data, done.record.data.notes
    assert data.rows == {"train": 24, "test": 40}
    counts = {name.removeprefix("unlabeled_rows"): notes[name] for name in notes if name.startswith("unlabeled_rows")}
    near = counts.pop("_near_held_out_rows")
    assert near >= 1
    assert counts == {"_without_text": 1, "_in_train": 1, "_in_test": 1, "_there_twice": 1, "": len(POOL) + 1 - near}

    first, last = notes["self_training"]
    assert f"{last['rows_added']} texts are learned with the class that a teacher gave them" in describe_notes(notes)
    plain = peftlab.run_recipe(
        peftlab.Recipe.from_dict(
            {
                **(values := recipe(self_training={}).model_dump(mode="json")),
                "training": {**values["training"], "self_training": None},
                "data": {**values["data"], "source": {**values["data"]["source"], "unlabeled": None}},
            }
        ),
        output_dir=tmp_path / "plain",
    )
    assert first["teacher_scores"] == plain.record.scores  # the first teacher learns from the labels alone
    said = [row["prediction"] for row in peftlab.load(done.folder / "teachers/2").predict([text for text, _ in POOL])]
    if near == 1:
        assert last["by_class"] == {name: -(-said.count(name) // 2) for name in set(said)}
    assert last["rows_added"] == sum(last["by_class"].values()) > 0

    # Stopped after the first teacher and taken up again, it ends the same.
    calls = stop_second_run()
    stopped = peftlab.run_recipe(taught, output_dir=tmp_path / "stopped")
    assert stopped.record.status == "cancelled"
    again = peftlab.run_recipe(taught, output_dir=tmp_path / "stopped", resume=True)
    assert again.record.status == "success", again.record.error
    assert calls == ["1", "2", "2", "stopped"]
    assert again.record.scores == done.record.scores
    assert again.record.data == data


def test_a_teacher_of_other_rows_is_not_taken_up(
    recipe, tmp_path: Path, stop_second_run: Callable[[], list[str]]
) -> None:
    taught = recipe(self_training={})
    calls = stop_second_run()
    assert peftlab.run_recipe(taught, output_dir=tmp_path / "run").record.status == "cancelled"
    assert calls == ["1", "run"]
    with (tmp_path / "train.csv").open("a") as file:
        file.write("one more row that came later,good\n")
    with pytest.raises(UserError, match="its data have changed"):
        peftlab.run_recipe(taught, output_dir=tmp_path / "run", resume=True)


@pytest.mark.parametrize(
    ("error", "status"), [(MemoryError("gone"), "out_of_memory"), (KeyboardInterrupt(), "cancelled")]
)
def test_what_ends_a_run_while_a_teacher_is_asked_leaves_a_record(
    recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, status: str
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise error

    monkeypatch.setattr(self_training, "ask", fail)
    done = peftlab.run_recipe(recipe(self_training={}), output_dir=tmp_path / "run")
    assert done.record.status == status
    assert (tmp_path / "run" / "record.json").is_file()


def test_the_pool_is_drawn_by_the_seed(recipe) -> None:
    taught = recipe(self_training={})
    fewer = taught.model_copy(update={"data": taught.data.model_copy(update={"max_unlabeled_examples": 10})})
    pools = [
        load_data(each, offline=True, report=lambda line: None).unlabeled.columns["text"] for each in (taught, fewer)
    ]
    assert len(pools[1]) <= 10 < len(pools[0])
    assert {text_key([text]) for text in pools[1]} <= {text_key([text]) for text in pools[0]}


def test_a_share_of_each_class_is_the_surest() -> None:
    scores = [[0.9, 0.1], [0.6, 0.4], [0.7, 0.3], [0.2, 0.8], [0.45, 0.55]]
    said = [Prediction(None, "ab"[row[1] > row[0]], row) for row in scores]
    assert surest(said, ("a", "b"), share=0.5, least_confidence=0.0) == [0, 2, 3]
    assert surest(said, ("a", "b"), share=1.0, least_confidence=0.65) == [0, 2, 3]
    assert surest(said, ("a", "b", "c"), share=0.1, least_confidence=0.85) == [0]
    many = [Prediction(None, "a", [0.9, 0.1])] * 100
    assert [len(surest(many, ("a",), share=share, least_confidence=0)) for share in (0.07, 0.55, 0.551)] == [7, 55, 56]


def test_bad_input_gets_a_message(recipe, tmp_path: Path) -> None:
    def refused(made: peftlab.Recipe, expected: str) -> None:
        with pytest.raises(UserError, match=expected):
            peftlab.run_recipe(made, output_dir=tmp_path / "bad")
        assert not (tmp_path / "bad").exists()

    refused(recipe(), "nothing learns from these texts")
    refused(recipe(task={"multi_label": True}, self_training={}), "pseudo-labels where each has one class")
    without = recipe(self_training={})
    source = {"train": str(tmp_path / "train.csv"), "test": str(tmp_path / "test.csv")}
    values = without.model_dump(mode="json")
    refused(
        peftlab.Recipe.from_dict({**values, "data": {**values["data"], "source": source}}), "no texts without labels"
    )
    (tmp_path / "pool.csv").write_text(f"text\n{TEST[0][0]}\n{TRAIN[0][0]}\n")
    refused(without, "no text without a label is left")
    (tmp_path / "pool.csv").write_text("body\nwhat a day\n")
    refused(without, "there is no column `text`")

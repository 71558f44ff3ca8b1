"""Augmented training rows of whole recipes: what is added, counted, and left alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from peftlab.core.augmentation import AUGMENTATIONS, Augmentation
from peftlab.core.callback import Callback
from peftlab.core.config import Document
from peftlab.core.errors import ConfigError, PeftlabError, UnsupportedError
from peftlab.core.record import RunRecord
from peftlab.core.splits import Split
from peftlab.core.task import TASKS
from peftlab.data.notices import describe_notes
from peftlab.preparation.check import CheckedRecipe, check_recipe
from peftlab.recipe.schema import build_recipe
from peftlab.run.reproduce.records import compare_records
from peftlab.run.run import run_recipe
from tests.conftest import sentences

BOTH = [{"type": "token_dropout", "probability": 0.3, "copies": 2}, {"type": "typos", "probability": 0.2}]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "rows.jsonl"
    rows = [
        {"text": text, "other": text[::-1], "label": label, "score": len(text)}
        for text, label in [*sentences(60), ("good", "good")]
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def values(model: Path, table: Path, augmentation: Any, *, seed: int = 0, **task: Any) -> dict[str, Any]:
    return {
        "name": "augmented",
        "seed": seed,
        "model": {"path": str(model)},
        "task": {"type": "text_classification", "max_length": 24, **task},
        "data": {"source": str(table), "augmentation": augmentation, "split_seed": 0},
        "method": {"type": "lora", "rank": 2},
        "training": {"max_steps": 2, "batch_size": 16},
        "evaluation": {"every": 1},
    }


def checked(*arguments: Any, **task: Any) -> CheckedRecipe:
    document = Document(source="test", values=values(*arguments, **task))
    return check_recipe(build_recipe(document, default_name="test"), document, offline=True)


def rows(split: Split, columns: tuple[str, ...]) -> list[tuple[Any, ...]]:
    return list(zip(split.index, *(split.columns[column] for column in columns), strict=True))


@pytest.mark.parametrize(
    "task",
    [
        {},
        {"type": "text_pair_classification", "text": ["text", "other"]},
        {"type": "text_regression", "label": "score"},
        {"type": "few_shot_classification"},
    ],
    ids=lambda task: task.get("type", "text_classification"),
)
def test_only_training_texts_change(task: dict[str, Any], tiny_bert: Path, table: Path) -> None:
    plain, more = checked(tiny_bert, table, [], **task), checked(tiny_bert, table, BOTH, **task)
    again, other = (checked(tiny_bert, table, BOTH, **task, seed=seed) for seed in (0, 1))
    texts, labels = plain.recipe.task.text_columns(), plain.recipe.task.label_columns()
    for name in ("validation", "test"):
        assert rows(plain.data.splits[name], texts + labels) == rows(more.data.splits[name], texts + labels)
    before, after = plain.data.splits["train"], more.data.splits["train"]
    assert rows(after, texts + labels)[: len(before)] == rows(before, texts + labels)
    assert set(rows(after, labels)) == set(rows(before, labels))  # a row's copies have its place and its label
    found = rows(after, texts)
    assert found == rows(again.data.splits["train"], texts) != rows(other.data.splits["train"], texts)
    added = found[len(before) :]
    originals = {row[0]: row[1:] for row in rows(before, texts)}
    for column in range(len(texts)):
        assert sum(row[1 + column] != originals[row[0]][column] for row in added) > len(added) / 2
    everywhere = [row[1:] for split in more.data.splits.values() for row in rows(split, texts)]
    assert len(set(everywhere)) == len(everywhere)
    summary, notes = more.data.summary, more.data.summary.notes
    assert notes["augmented_rows_added"] == len(added) > 0
    counts = [notes[f"augmented_rows_{what}"] for what in ("added", "unchanged", "dropped")]
    assert sum(counts) == 3 * len(before)
    assert (summary.fingerprint, summary.rows) == (plain.data.summary.fingerprint, plain.data.summary.rows)
    assert summary.added_rows_fingerprint == again.data.summary.added_rows_fingerprint
    assert summary.added_rows_fingerprint != other.data.summary.added_rows_fingerprint
    assert plain.data.summary.added_rows_fingerprint is None


def test_a_row_keeps_its_copies_when_others_are_left_out(tiny_bert: Path, table: Path) -> None:
    def copies(**data: Any) -> set[tuple[Any, ...]]:
        recipe = values(tiny_bert, table, BOTH)
        document = Document(source="test", values={**recipe, "data": {**recipe["data"], **data}})
        found = check_recipe(build_recipe(document, default_name="test"), document, offline=True)
        return set(rows(found.data.splits["train"], ("text",)))

    assert copies(max_train_examples=20) <= copies()


def test_what_is_there_already_is_not_added(tiny_bert: Path, table: Path) -> None:
    """A plugin that turns every text into one of the test split, into nothing, or leaves it alone."""

    class Leaky(Augmentation):
        """A plugin."""

        to: str

        def change(self, text: str, random: Any) -> str:
            return text if self.to == "same" else self.to

    test_text = checked(tiny_bert, table, []).data.splits["test"].columns["text"][0]
    try:
        AUGMENTATIONS.register("leaky")(Leaky)
        entries = [{"type": "leaky", "to": to} for to in (test_text.upper(), " ", "same", "new")]
        found = checked(tiny_bert, table, entries)
    finally:
        AUGMENTATIONS._classes.pop("leaky", None)
    count, notes = found.data.summary.rows["train"], found.data.summary.notes
    assert notes["augmented_rows_added"] == 1
    assert notes["augmented_rows_unchanged"] == count
    assert notes["augmented_rows_dropped"] == 2 * count + count - 1
    lines = describe_notes(notes)
    assert "1 changed copy of a training row was added (data.augmentation)" in lines
    assert f"{count} copies of training rows were not added, since nothing in them has changed" in lines


class StopAtTwo(Callback):
    def on_step(self, step: int, loss: float) -> None:
        if step == 2:
            raise RuntimeError("the power is gone")


@pytest.mark.slow
def test_a_run_learns_from_them_and_is_resumed_to_the_same(tiny_bert: Path, table: Path, tmp_path: Path) -> None:
    recipe = values(tiny_bert, table, BOTH)
    recipe["training"] = {"epochs": 1, "batch_size": 16, "class_weights": "balanced", "log_every_steps": 1}
    document = Document(source="test", values=recipe)

    def run(folder: str, **options: Any) -> RunRecord:
        built = build_recipe(document, default_name="test")
        return run_recipe(built, document, output_dir=tmp_path / folder, offline=True, device="cpu", **options).record

    record = run("whole")
    data = record.data
    assert data is not None
    assert record.status == "success", record.error
    assert record.steps == -(-(data.rows["train"] + data.notes["augmented_rows_added"]) // 16)
    assert record.recipe["data"]["augmentation"] == [
        {"type": "token_dropout", "copies": 2, "rows": "train", "keep_if": None, "probability": 0.3},
        {"type": "typos", "copies": 1, "rows": "train", "keep_if": None, "probability": 0.2},
    ]
    assert run("cut", callbacks=[StopAtTwo()]).status == "failed"
    resumed = run("cut", resume=True)
    assert (resumed.resumed, resumed.scores, resumed.data) == (1, record.scores, data)
    figures = {"predictions": (None, None), "make_scorer": lambda *_: None, "folder": tmp_path}
    compared = compare_records(record, resumed, **figures)
    assert [each.verdict for each in compared.figures if each.name == "rows added by augmentation"] == ["identical"]


REFUSED: dict[str, str] = {
    "token_classification": "its labels sit on words",
    "question_answering": "an answer is a place",
    "instruction_tuning": "learns to write",
    "preference_tuning": "learns to write",
    "reinforcement": "learns to write",
    "text_embedding": "wrong answer",
}


@pytest.mark.parametrize("name", [name for name in TASKS if not name.startswith("turing")])
def test_each_task_takes_it_or_says_why_not(name: str, tiny_bert: Path, table: Path) -> None:
    own = {"reinforcement": {"rewards": [{"type": "exact_match"}]}, "reranking": {"label": "label"}}.get(name, {})
    document = Document(source="test", values={**values(tiny_bert, table, BOTH), "task": {"type": name, **own}})
    recipe = build_recipe(document, default_name="test")
    if recipe.task.takes_augmentation:
        assert name not in REFUSED
        return
    with pytest.raises(UnsupportedError, match="takes no augmentation: ") as caught:
        check_recipe(recipe, document, offline=True)
    assert "data.augmentation" in str(caught.value)
    assert REFUSED.get(name, "") in str(caught.value)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([{"type": "token_dropuot"}], "unknown augmentation `token_dropuot`"),
        ([{"type": "typos", "probability": 0}], "greater than 0"),
        ([{"type": "typos", "copys": 2}], "copies"),
        (["typos"], "a mapping is needed"),
        ([{"probability": 0.1}], "the key `type` is required"),
        ("typos", "list"),
    ],
)
def test_a_wrong_entry_is_named(entries: Any, message: str, tiny_bert: Path, table: Path) -> None:
    with pytest.raises(PeftlabError, match=message) as caught:
        checked(tiny_bert, table, entries)
    assert isinstance(caught.value, ConfigError)
    assert "data.augmentation" in str(caught.value)


def test_estimate_sees_the_rows(tiny_bert: Path, table: Path) -> None:
    from peftlab.estimate.data import look_at_data

    _, batch = look_at_data(checked(tiny_bert, table, BOTH))
    assert batch is not None
    assert batch.size == 16

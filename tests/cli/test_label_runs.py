"""Labels from the command line: `validate` says what `run` says; a resumed run has its classes in the same order."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from peftlab.training.checkpoints import FORMAT
from tests.cli.conftest import RECIPE, read_json
from tests.conftest import Command, sentences

pytestmark = pytest.mark.slow


def write(folder: Path, model: Path, rows: list[dict[str, object]], task: str = "text_classification") -> Path:
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    text = RECIPE.format(model=model, data=folder / "rows.jsonl").replace("text_classification", task)
    (folder / "recipe.yaml").write_text(text)
    return folder / "recipe.yaml"


@pytest.mark.parametrize("blank", ["", " ", "\u200d"])
def test_validate_and_run_say_the_same_of_empty_texts_and_name_the_data(
    command: Command, tmp_path: Path, tiny_gpt2: Path, blank: str
) -> None:
    rows: list[dict[str, object]] = [{"text": text, "label": label} for text, label in sentences(40)]
    recipe = write(tmp_path, tiny_gpt2, [*rows, {"text": blank, "label": "good"}])
    checked, ran = command("validate", recipe), command("run", recipe)
    for done in (checked, ran):
        assert done.returncode == 2
        assert "recipe.yaml:4: data: rows.jsonl, row 41: the column `text` is missing or empty" in done.stderr
    assert command("validate", recipe, "--set", "data.drop_missing=true").returncode == 0


def test_a_resumed_run_has_its_classes_in_the_same_order(
    command: Command, process: Command, tmp_path: Path, tiny_bert: Path
) -> None:
    """Sets of strings have another order in each process."""
    names = ["3", "nan", "10", "2"]
    rows: list[dict[str, object]] = [
        {"text": text, "label": names[at % 4]} for at, (text, _) in enumerate(sentences(60))
    ]
    recipe = write(tmp_path, tiny_bert, rows)
    options = [
        "run",
        recipe,
        "--set",
        "training.max_steps=2",
        "--set",
        "training.epochs=null",
        "--set",
        "measure=false",
    ]
    for done in (
        command(*options, "--output-dir", "here", "--json"),
        process(*options, "--output-dir", "there", "--json", PYTHONHASHSEED="5"),
    ):
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["labels"] == ["2", "3", "10", "nan"]


def test_rows_without_labels_are_predicted_and_scored_as_such(
    command: Command, tmp_path: Path, tiny_bert: Path
) -> None:
    rows: list[dict[str, object]] = [
        {"text": text, "label": [[], ["good"], None, ["good", "short"]][at % 4]}
        for at, (text, _) in enumerate(sentences(80))
    ]
    recipe = write(tmp_path, tiny_bert, rows)
    run = tmp_path / "out"
    done = command("run", recipe, "--set", "task.multi_label=true", "--set", "measure=false", "--output-dir", run)
    assert done.returncode == 0, done.stderr
    assert sum(read_json(run / "record.json")["data"]["rows"].values()) == 80
    (tmp_path / "new.csv").write_text('text,label\nthe film was a day,\nwe saw it,"good, short"\nin town,good \n')
    scored = command("evaluate", run, "--data", tmp_path / "new.csv", "--json")
    assert scored.returncode == 0, scored.stderr
    assert json.loads(scored.stdout)["rows"] == 3


def test_a_run_is_not_resumed_with_other_labels_or_by_another_version(
    command: Command, tmp_path: Path, tiny_bert: Path
) -> None:
    rows: list[dict[str, object]] = [{"text": text, "label": label} for text, label in sentences(60)]
    recipe = write(tmp_path, tiny_bert, rows)
    run = tmp_path / "out"
    options = ["run", recipe, "--output-dir", run, "--set", "training.checkpoint_every_steps=2"]
    assert command(*options).returncode == 0
    (run / "record.json").unlink()
    states = sorted((run / "checkpoints").rglob("state.json"))
    assert states
    written = {path: path.read_text() for path in states}
    for old, changed, told in (
        ('["bad", "good"]', '["good", "bad"]', "`labels` has changed"),
        (f'"format": {FORMAT}', '"format": 1', "another version of peftlab began it"),
        (f'"format": {FORMAT}, ', "", "another version of peftlab began it"),
    ):
        for path, text in written.items():
            assert old in text
            path.write_text(text.replace(old, changed))
        done = command(*options, "--resume")
        assert done.returncode == 2
        assert told in done.stderr

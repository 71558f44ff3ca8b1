"""Runs that go on with new rows: what they learn, on what they are measured, and what they hold on to."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
import yaml
from safetensors.torch import load_file
from typer.testing import CliRunner

import peftlab
from peftlab.artifact.saved_run import SavedRun
from peftlab.cli.app import app
from peftlab.cli.continuing import _next, _thresholds
from peftlab.core.audit import AUDITS
from peftlab.core.errors import DataError, UnsupportedError, UserError
from peftlab.core.past import Past
from peftlab.core.record import Gate, read_record
from peftlab.preparation.load_data import load_data
from peftlab.regularizers.ewc import Ewc, diagonal_fisher
from peftlab.run.continuation import compare_with_earlier, continuation_recipe
from tests.conftest import sentences

pytestmark = pytest.mark.slow

ROWS = sentences(420, seed=4)
OLD, NEW, THIRD = ROWS[:240], ROWS[240:320], ROWS[320:]
Rows = list[tuple[str, str]]


def write(path: Path, rows: Rows) -> Path:
    path.write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in rows))
    return path


def flipped(rows: Rows) -> Rows:
    return [(text, "bad" if label == "good" else "good") for text, label in rows]


@pytest.fixture(scope="module")
def first(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("first")
    recipe = peftlab.Recipe.from_dict(
        {
            "name": "moods",
            "measure": False,
            "model": {"path": str(tiny_bert)},
            "task": {"type": "text_classification", "max_length": 16},
            "data": {"source": str(write(folder / "old.csv", OLD)), "validation_fraction": 0.2},
            "method": {"type": "lora", "rank": 4},
            "training": {"epochs": 8, "batch_size": 16, "learning_rate": 1e-2},
            "evaluation": {"every": 100000},
            "waive_guards": ["answers_vary"],
        }
    )
    result = peftlab.run_recipe(recipe, output_dir=folder / "run")
    assert result.record.status == "success", result.record.error
    return result.folder


@pytest.fixture(scope="module")
def second(first: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """It goes on with new rows, of which three are test rows of the first run and three training rows of it."""
    folder = tmp_path_factory.mktemp("second")
    splits = load_data(SavedRun.open(first).recipe, offline=True, report=print).splits
    known = [row for name in ("train", "test") for row in list(zip(*splits[name].columns.values(), strict=True))[:12]]
    new = write(folder / "new.csv", [*NEW, *known])
    before = {path: path.read_bytes() for path in first.rglob("*") if path.is_file()}
    recipe, document = continuation_recipe(
        SavedRun.open(first), str(new), replay=0.25, overrides=["training.regularizers=[{type: ewc, rows: 8}]"]
    )
    result = peftlab.run_recipe(recipe, document, output_dir=folder / "run")
    assert result.record.status == "success", result.record.error
    assert {path: path.read_bytes() for path in first.rglob("*") if path.is_file()} == before
    return result.folder


def texts(folder: Path) -> dict[str, list[str]]:
    data = load_data(SavedRun.open(folder).recipe, offline=True, report=print)
    return {name: list(split.columns["text"]) for name, split in data.splits.items()}


def test_it_learns_new_rows_and_a_share_of_the_old_ones(first: Path, second: Path) -> None:
    old, now, record = texts(first), texts(second), read_record(second)
    assert record.name == "moods-2"
    assert list(now) == ["train", "validation", "test", "test_earlier_1"]
    assert now["test_earlier_1"] == old["test"]
    replayed = set(now["train"]) & set(old["train"])
    assert record.data.notes["rows_replayed"] == -(-len(old["train"]) // 4) <= len(replayed)
    assert record.data.rows["train"] == len(now["train"]) - record.data.notes["rows_replayed"]
    # No row that one of the two is tested on or chosen by is learned by either.
    held_out = {*now["test"], *now["test_earlier_1"], *now["validation"]}
    assert not held_out & set(now["train"])
    assert not set(now["test"]) & {*old["train"], *old["validation"]}
    assert not {*now["test"], *now["test_earlier_1"]} & {*old["train"]}
    assert sum(record.data.notes.get(f"{name}_rows_of_earlier_runs", 0) for name in ("train", "validation", "test")) > 0
    assert len(set(now["validation"]) & set(old["validation"])) <= len(now["validation"]) // 2


def test_rows_of_two_tables_are_told_apart(first: Path, second: Path) -> None:
    """Each has a number of its own, and its place is that in its own table."""
    own, now = (load_data(SavedRun.open(run).recipe, offline=True, report=print).splits for run in (first, second))
    for name in ("train", "validation"):
        split, old = now[name], own[name]
        assert len(set(split.index)) == len(split)
        places = {old.columns["text"][at]: old.index[at] + 1 for at in range(len(old))}
        replayed = [at for at in range(len(split)) if split.table_and_row(at)[0] == "old.csv"]
        assert replayed
        for at in replayed:
            place = {"row": places[split.columns["text"][at]], "table": "old.csv"}
            assert split.place(at) == place
            assert split.where(at) == f"old.csv, row {place['row']}"
        assert split.place(0, prefix="training_") == {"training_row": split.index[0] + 1}
    told = [row["index"] for row in rows_of(second, "validation")]
    assert sorted(told) == sorted(now["validation"].index)


def test_the_record_names_the_earlier_run_and_pairs_their_scores(first: Path, second: Path) -> None:
    earlier, record = read_record(first), read_record(second)
    assert record.earlier.run == "moods"
    assert record.earlier.folder == str(first.resolve())
    assert record.recipe["continues"]["run"] == str(first.resolve())
    # Row by row the answers are those that the earlier run has stored.
    told = {row["index"]: row["prediction"] for row in rows_of(first, "test")}
    assert told == {row["index"]: row["prediction"] for row in rows_of(second, "before_test_earlier_1")}
    assert record.earlier.scores["test_earlier_1"] == pytest.approx(earlier.scores["test"])
    changes = {change.split: change for change in compare_with_earlier(peftlab_result(second))}
    assert changes.keys() == {"test", "test_earlier_1"}
    change = changes["test_earlier_1"]
    assert change.difference == pytest.approx(change.now - change.earlier)
    assert change.low <= change.difference <= change.high
    assert change.n == record.data.rows["test_earlier_1"]


def peftlab_result(folder: Path) -> Any:
    from peftlab.run.run import RunResult

    return RunResult(read_record(folder), folder)


def rows_of(folder: Path, split: str) -> list[dict[str, Any]]:
    return [row for row in pq.read_table(folder / "predictions.parquet").to_pylist() if row["split"] == split]


def test_a_third_run_has_the_test_rows_of_both_before(second: Path, tmp_path: Path) -> None:
    recipe, document = continuation_recipe(
        SavedRun.open(second), str(write(tmp_path / "third.csv", THIRD)), replay=0.0,
        overrides=["training.regularizers=[{type: ewc, rows: 8}]", "training.max_steps=2"],
    )  # fmt: skip
    done = peftlab.run_recipe(recipe, document, output_dir=tmp_path / "run")
    assert done.record.status == "success", done.record.error
    assert done.record.name == "moods-3"
    assert {"test", "test_earlier_1", "test_earlier_2"} <= done.record.scores.keys()
    assert texts(done.folder)["test_earlier_2"] == texts(second)["test"]
    before = load_file(second / "remembered.safetensors")
    after = load_file(done.folder / "remembered.safetensors")
    assert before.keys() == after.keys()
    assert all(name.startswith("ewc/") for name in after)
    assert all((after[name] >= before[name]).all() for name in after)  # what runs before it were worth is in it


def test_training_on_everything_begins_with_the_base(first: Path, tmp_path: Path) -> None:
    recipe, document = continuation_recipe(
        SavedRun.open(first), str(write(tmp_path / "new.csv", NEW)), replay=1.0,
        overrides=["continues.weights=false", "training.max_steps=2"],
    )  # fmt: skip
    done = peftlab.run_recipe(recipe, document, output_dir=tmp_path / "run")
    assert done.record.status == "success", done.record.error
    assert done.record.earlier.scores["test_earlier_1"] == pytest.approx(read_record(first).scores["test"])
    assert done.record.earlier.start_scores.keys() == {"test", "test_earlier_1"}
    assert done.record.data.notes["rows_replayed"] == len(texts(first)["train"])


def test_new_rows_may_have_splits_of_their_own(first: Path, tmp_path: Path) -> None:
    files = {name: str(write(tmp_path / f"{name}.csv", NEW)) for name in ("train", "test")}
    recipe, _ = continuation_recipe(SavedRun.open(first), json.dumps(files), replay=0.05)
    assert recipe.data.source.model_dump(exclude_none=True) == files
    with pytest.raises(UserError, match="--data:1: not YAML"):
        continuation_recipe(SavedRun.open(first), "{train: ", replay=0.05)


def test_data_that_are_gone_or_have_changed(first: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Path(SavedRun.open(first).recipe.data.source)
    held = source.read_text()
    new = write(tmp_path / "new.csv", NEW)
    try:
        write(source, OLD[:-1])
        recipe, document = continuation_recipe(SavedRun.open(first), str(new), replay=0.05)
        with pytest.raises(DataError, match=r"changed since the earlier run[\s\S]*set continues.replay to 0"):
            peftlab.run_recipe(recipe, document, output_dir=tmp_path / "a")
        source.unlink()
        recipe, document = continuation_recipe(
            SavedRun.open(first), str(new), replay=0.0, overrides=["training.max_steps=2"]
        )
        done = peftlab.run_recipe(recipe, document, output_dir=tmp_path / "b")
    finally:
        source.write_text(held)
    assert done.record.status == "success", done.record.error
    assert "cannot be read" in done.record.data.notes["earlier_rows"]
    assert done.record.scores.keys() == {"validation", "test"}
    assert done.record.earlier.scores.keys() == {"test"}


def test_l2_sp_and_distillation_hold_on_to_the_earlier_run(first: Path, tmp_path: Path) -> None:
    """The new labels are the wrong ones: what holds on to the earlier run unlearns less of it."""
    new = write(tmp_path / "new.csv", flipped(NEW))
    remedies = {
        "plain": [],
        "l2_sp": ["training.regularizers=[{type: l2_sp, alpha: 30.0}]"],
        "distillation": [f"training.distillation={{teachers: [{first}], weight: 1.0}}"],
    }
    runs = {}
    for name, overrides in remedies.items():
        settings = [*overrides, "training.epochs=3", "data.validation_fraction=0"]
        recipe, document = continuation_recipe(SavedRun.open(first), str(new), replay=0.0, overrides=settings)
        done = peftlab.run_recipe(recipe, document, output_dir=tmp_path / name)
        assert done.record.status == "success", done.record.error
        runs[name] = done
    kept = {name: done.record.scores["test_earlier_1"]["accuracy"] for name, done in runs.items()}
    before = runs["plain"].record.earlier.scores["test_earlier_1"]["accuracy"]
    assert kept["plain"] < before - 0.2
    assert kept["distillation"] > before - 0.1
    assert kept["l2_sp"] > kept["plain"] + 0.1
    # The anchor of L2-SP is what the earlier run left, not what its adapter began with.
    start = load_file(first / "adapter/adapter_model.safetensors")
    moved = {
        name: distance(start, load_file(done.folder / "adapter/adapter_model.safetensors"))
        for name, done in runs.items()
    }
    assert moved["l2_sp"] < moved["plain"] / 3


def distance(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """Over all LoRA weights."""
    return sum(float(((value - other[name]) ** 2).sum()) for name, value in one.items() if "lora_" in name) ** 0.5


Invoke = Callable[..., Any]


@pytest.fixture
def invoke(monkeypatch: pytest.MonkeyPatch) -> Invoke:
    return lambda *arguments: CliRunner().invoke(app, ["continue", *map(str, arguments)])


@pytest.mark.parametrize("name", ["alarms", "worse"])
def test_numbers_of_all_parts_are_asked_of_all(name: str, tmp_path: Path) -> None:
    """`worse: 0` was taken for the name of a part that there is not."""
    (tmp_path / "f.yaml").write_text(f"{name}: 0\nerrors.overall: 0.5\n")
    limits, parts = _thresholds(tmp_path / "f.yaml")
    assert limits.limits.keys() == {name, "errors.overall"}
    assert {part.registered_name for part in parts} == set(AUDITS)


def test_the_gate_accepts_and_refuses(first: Path, invoke: Invoke, tmp_path: Path) -> None:
    thresholds = tmp_path / "f.yaml"
    thresholds.write_text("errors.overall: 0.5\n")
    new, wrong = write(tmp_path / "new.csv", NEW), write(tmp_path / "wrong.csv", flipped(NEW + THIRD))
    fine = invoke(first, "--data", new, "--output", tmp_path / "a", "--fail-under", thresholds, "--replay", "20%")
    assert fine.exit_code == 0, fine.output
    assert "accepted" in fine.output
    assert "difference" in fine.output
    again = [first, "--data", new, "--output-dir", tmp_path / "a", "--fail-under", thresholds, "--replay", "20%"]
    refused = invoke(*again)
    assert refused.exit_code == 2
    assert "Choose another --output-dir, or add --resume" in refused.output  # both are options of this verb
    record = read_record(tmp_path / "a")
    resumed = invoke(*again, "--resume")
    assert resumed.exit_code == 0, resumed.output
    assert "accepted" in resumed.output
    assert read_record(tmp_path / "a").scores == record.scores
    assert f"peftlab predict {tmp_path / 'a'}" in fine.output
    thresholds.write_text("errors.overall: 0.01\n")
    bad = invoke(
        first, "--data", wrong, "--output", tmp_path / "b", "--fail-under", thresholds, "--replay", "0", "--json",
        "--set", "training.epochs=12",
    )  # fmt: skip
    assert bad.exit_code == 1, bad.output
    shown = json.loads(bad.stdout)
    gate = shown["record"]["gate"]
    assert not gate["accepted"]
    assert any("test_earlier_1" in sentence for sentence in gate["worse"])
    assert read_record(tmp_path / "b").gate.model_dump() == gate
    assert any(change["is_worse"] for change in shown["changes"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--replay", "7"], "a share such as 5% or 0.05"),
        (["--set", "method.type=bitfit"], "its weights are none of bitfit"),
        (["--set", "task.text=title"], "the text columns text, and this recipe title"),
        (["--set", "model.path=elsewhere"], "this recipe has elsewhere"),
        (["--data", "joy.csv"], "the class 'joy' of the train split is new"),
        (["--set", "continues.run=elsewhere"], "`continues.run` is RUN here"),
        (["--set", "data.source=elsewhere"], "`data.source` is --data here"),
        (["--fail-under", "none.yaml"], "no such file"),
        (["--output", "inside"], "this lies in the input"),
    ],
)  # fmt: skip
def test_wrong_input(first: Path, invoke: Invoke, arguments: list[str], message: str, tmp_path: Path) -> None:
    write(tmp_path / "joy.csv", [(text, "joy") for text, _ in NEW])
    given = [str(tmp_path / each) if each in ("joy.csv", "none.yaml") else each for each in arguments]
    given = [str(first / each) if each == "inside" else each for each in given]
    data = [] if "--data" in given else ["--data", write(tmp_path / "new.csv", NEW)]
    found = invoke(first, *data, *given)
    assert found.exit_code == 2, found.output
    assert message in found.output.replace("\n", " ")


def test_the_fisher_information_against_the_definition(first: Path) -> None:
    """Row by row: the label is drawn from the model, and the gradient of its log-probability squared."""
    run = SavedRun.open(first)
    model = run.load_model(offline=True)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("lora_" in name)
    data = load_data(run.recipe, offline=True, report=print).splits["train"]
    encoded = run.recipe.task.encode(data, run.tokenizer, run.labels).examples[:6]
    batches = [run.recipe.task.collate([example], run.tokenizer.pad_token_id) for example in encoded]
    weights = {name: value.detach() for name, value in model.named_parameters() if value.requires_grad}
    found = diagonal_fisher(model, run.recipe.task, batches, weights)

    generator = torch.Generator().manual_seed(0)
    expected = {name: torch.zeros_like(value) for name, value in weights.items()}
    for batch in batches:
        model.zero_grad()
        logs = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits.log_softmax(-1)[0]
        label = torch.multinomial(logs.detach().exp(), 1, generator=generator)
        logs[label].sum().backward()
        for name, value in model.named_parameters():
            if name in expected:
                expected[name] += value.grad**2 / len(batches)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-10)

    ewc = Ewc(strength=3.0)
    ewc.begin(model, None)
    assert ewc.penalty(model) is None  # nothing is known of the past yet
    ewc.remember(model, Past(run.recipe.task, lambda count: iter(batches[:count]), {}))
    assert float(ewc.penalty(model)) == 0
    with torch.no_grad():
        for name, value in model.named_parameters():
            if name in weights:
                value.add_(0.5)
    squares = sum(float((value * 0.25).sum()) for value in expected.values())
    assert float(ewc.penalty(model)) == pytest.approx(1.5 * squares, rel=1e-3)
    other = Ewc(strength=3.0)
    other.restore(model, ewc.state(model))
    assert float(other.penalty(model)) == pytest.approx(float(ewc.penalty(model)))
    # O-LoRA's matrices were smaller in the run before; what is known of the head counts on.
    known = {name: torch.ones_like(value[:2] if "lora_" in name else value) for name, value in expected.items()}
    grown = Ewc(decay=0.5).remember(model, Past(run.recipe.task, lambda count: iter(batches[:count]), known))
    now = diagonal_fisher(model, run.recipe.task, batches[: len(batches)], weights)
    for name, value in grown.items():
        torch.testing.assert_close(value, now[name] if "lora_" in name else now[name] + 0.5)


def test_a_head_with_a_place_for_classes_to_come(first: Path, tmp_path: Path) -> None:
    task = SavedRun.open(first).recipe.task.model_copy(update={"known_classes": ["joy", "good"]})
    train = load_data(SavedRun.open(first).recipe, offline=True, report=print).splits["train"]
    labels = task.learn_labels(train)
    assert len(labels) == 3
    assert {"joy", "bad"} <= set(labels)
    task.check_split(replace(train, columns={"text": ["a day"], "label": ["joy"]}, index=[0]), labels)


def test_ewc_looks_back_in_the_precision_of_the_run(first: Path, tmp_path: Path) -> None:
    """On a card a frozen base is in bfloat16 by default, under adapters and a head in float32."""
    recipe, document = continuation_recipe(
        SavedRun.open(first), str(write(tmp_path / "new.csv", NEW)), replay=0.0,
        overrides=["model.dtype=bfloat16", "training.regularizers=[{type: ewc, rows: 4}]", "training.max_steps=2"],
    )  # fmt: skip
    done = peftlab.run_recipe(recipe, document, output_dir=tmp_path / "run")
    assert done.record.status == "success", done.record.error
    found = load_file(done.folder / "remembered.safetensors")
    assert all(value.dtype == torch.float32 for value in found.values())
    assert sum(bool(value.any()) for value in found.values()) > 4


def test_ewc_needs_a_run_to_go_on_from(first: Path) -> None:
    values = yaml.safe_load((first / "recipe.yaml").read_text())
    values["training"] = {"regularizers": [{"type": "ewc"}]}
    with pytest.raises(UnsupportedError, match="holds on to what an earlier run learned"):
        peftlab.run_recipe(peftlab.Recipe.from_dict(values), output_dir=first.parent / "none")


@pytest.mark.parametrize("accepted", [True, False])
def test_nobody_is_sent_to_export_what_was_refused(accepted: bool, first: Path) -> None:
    record = read_record(first).model_copy(update={"gate": Gate(accepted=accepted, worse=[])})
    told = "\n".join(_next(SimpleNamespace(record=record, folder=Path("new")), Path("old")))
    assert ("peftlab export" in told) is accepted
    assert ("peftlab audit new --before old" in told) is not accepted

"""Runs that a program starts with objects in its hands."""

from __future__ import annotations

import base64
import json
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar
from xml.etree import ElementTree

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

import peftlab
from peftlab import Callback, Recipe, RunRecord, RunResult, StopTraining, run_recipe
from peftlab.core.callback import CallbackError
from peftlab.core.errors import UserError
from peftlab.run.reproduce.rerun import reproduce

pytestmark = pytest.mark.slow

ROWS = [
    {"text": f"{start} {word} {end}", "label": label}
    for label, words in (("good", ["good", "great", "lovely", "kind"]), ("bad", ["bad", "awful", "sad", "dark"]))
    for word in words
    for start in ("the film was", "we saw a")
    for end in ("day", "town", "film", "day in the town", "film in town")
]


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
    with pytest.raises(UserError, match=r'data.source was "python:rows=80#.*is "python:rows=79#'):
        run_recipe(recipe_of(ROWS[:-1]), output_dir=of_rows.folder, resume=True)


def test_a_run_goes_on_where_another_version_replays_its_steps(
    of_rows: RunResult, recipe_of: Callable[..., Recipe]
) -> None:
    """`training.cuda_graphs` says how steps are computed, and had another default once."""
    own = recipe_of(ROWS)
    other = own.model_copy(update={"training": own.training.model_copy(update={"cuda_graphs": "off"})})
    assert run_recipe(other, output_dir=of_rows.folder, resume=True).record == of_rows.record


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


class Listener(Callback):
    """Keeps what it hears, and fails or stops where it is told to."""

    def __init__(self, *, stop: tuple[str, int] | None = None, fail: tuple[str, int] | None = None) -> None:
        self.heard: list[tuple[Any, ...]] = []
        self._raised = {stop: StopTraining(), fail: ValueError("no thanks")}

    def _hear(self, event: str, step: int, value: Any) -> None:
        self.heard.append((event, step, value))
        if (event, step) in self._raised:
            raise self._raised[event, step]

    def on_step(self, step: int, loss: float) -> None:
        self._hear("step", step, loss)

    def on_evaluation(self, step: int, scores: Mapping[str, float]) -> None:
        self._hear("evaluation", step, scores)

    def on_end(self, record: RunRecord) -> None:
        self._hear("end", record.steps, record.status)


EVERY_STEP = {"max_steps": 4, "batch_size": 8, "learning_rate": 2e-2, "log_every_steps": 1}


def test_callbacks_hear_of_a_run(recipe_of: Callable[..., Recipe], tmp_path: Path) -> None:
    class Ends:
        """Not derived from anything, and with one method alone."""

        records: ClassVar[list[RunRecord]] = []

        def on_end(self, record: RunRecord) -> None:
            self.records.append(record)

    listener = Listener()
    result = run_recipe(recipe_of(training=EVERY_STEP), output_dir=tmp_path / "run", callbacks=[listener, Ends()])
    assert [(event, step) for event, step, _ in listener.heard] == [
        ("step", 1),
        ("step", 2),
        ("evaluation", 2),
        ("step", 3),
        ("step", 4),
        ("evaluation", 4),
        ("end", 4),
    ]
    assert {"accuracy", "loss"} <= set(listener.heard[2][2])
    assert listener.heard[-1][2] == "success"
    assert Ends.records == [result.record]
    log = [json.loads(line) for line in (result.folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["loss"] for line in log if "loss" in line] == [v for event, _, v in listener.heard if event == "step"]


@pytest.mark.parametrize("place", [("step", 3), ("evaluation", 2)])
def test_a_callback_may_end_the_training(
    place: tuple[str, int], recipe_of: Callable[..., Recipe], tmp_path: Path
) -> None:
    listener = Listener(stop=place)
    record = run_recipe(recipe_of(training=EVERY_STEP), output_dir=tmp_path / "run", callbacks=[listener]).record
    assert (record.status, record.steps, record.stopped_by) == ("success", place[1], "Listener")
    assert record.best_step in {2, 3}
    assert ("evaluation", place[1]) in [heard[:2] for heard in listener.heard]  # before the best state is chosen
    assert record.scores["test"]
    with pytest.raises(UserError, match=rf"ended after step {place[1]} by Listener"):
        reproduce(tmp_path / "run", output_dir=tmp_path / "again")


@pytest.mark.parametrize("place", [("step", 3), ("evaluation", 2), ("step", 4)])
def test_a_run_whose_callback_failed_goes_on_to_the_same_end(
    place: tuple[str, int], recipe_of: Callable[..., Recipe], tmp_path: Path
) -> None:
    recipe, folder = recipe_of(training=EVERY_STEP), tmp_path / "run"
    whole = run_recipe(recipe, output_dir=tmp_path / "whole").record
    listener = Listener(fail=place)
    failed = run_recipe(recipe, output_dir=folder, callbacks=[listener]).record
    assert (failed.status, failed.steps) == ("failed", 0)
    assert failed.error is not None
    assert f"on_{place[0]} of the callback Listener raised ValueError: no thanks" in failed.error
    assert "in _hear" in (folder / "traceback.txt").read_text()
    assert listener.heard[-1][0] == "end"
    after = run_recipe(recipe, output_dir=folder, resume=True, callbacks=[resumed := Listener()]).record
    assert (after.status, after.resumed, after.scores) == ("success", 1, whole.scores)
    assert [step for event, step, _ in resumed.heard if event == "step"] == list(range(place[1] + 1, 5))


def test_a_run_does_not_go_on_over_another_base(
    recipe_of: Callable[..., Recipe], tiny_bert: Path, tmp_path: Path
) -> None:
    """An adapter begins with the same numbers over any weights of one shape, so that those told nothing."""
    base, folder = shutil.copytree(tiny_bert, tmp_path / "bert"), tmp_path / "run"
    recipe = recipe_of(model={"path": base}, training=EVERY_STEP)
    run_recipe(recipe, output_dir=folder, callbacks=[Listener(fail=("step", 3))])
    weights = {name: value * 1.5 for name, value in load_file(base / "model.safetensors").items()}
    save_file(weights, base / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"`base_weights \(float32, cpu\)` has changed"):
        run_recipe(recipe, output_dir=folder, resume=True)


def test_when_on_end_fails_everything_is_on_disk(recipe_of: Callable[..., Recipe], tmp_path: Path) -> None:
    with pytest.raises(CallbackError, match="on_end of the callback Listener raised ValueError"):
        run_recipe(recipe_of(), output_dir=tmp_path / "run", callbacks=[Listener(fail=("end", 4))])
    assert peftlab.read_record(tmp_path / "run").status == "success"


@pytest.mark.parametrize(
    ("callbacks", "message"),
    [
        ([object()], r"callbacks.0: a callback has one of the methods on_step, on_evaluation, on_end"),
        ([Listener(), Listener], r"callbacks.1: this is a class\n  Give an object: Listener\(\)"),
        (Listener(), r"callbacks: a list is needed"),
        (None, r"callbacks: a list is needed, not None"),
    ],
)
def test_what_is_no_callback_is_refused(callbacks: Any, message: str, recipe_of: Callable[..., Recipe]) -> None:
    with pytest.raises(UserError, match=message):
        run_recipe(recipe_of(), callbacks=callbacks)


@pytest.mark.parametrize(
    ("recipe", "hint"),
    [({"model": {}}, "from_dict"), (("recipe", "document"), r"run_recipe\(\*load_recipe"), ("a.yaml", "Read the file")],
)
def test_what_is_no_recipe_is_refused(recipe: Any, hint: str) -> None:
    with pytest.raises(UserError, match=rf"recipe: a Recipe is needed, not a \w+\n.*{hint}"):
        run_recipe(recipe)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"document": "runs/x"}, r"document: this is 'runs/x'\n.*output_dir=…"),
        ({"output_dir": 3}, r"output_dir: this is 3\n  It takes the path of a folder"),
        ({"device": 0}, r"device: this is 0\n.*cuda:N"),
        ({"reporter": print}, r"reporter: this is .*\n.*PlainReporter\(\)"),
        ({"reporter": peftlab.PlainReporter}, r"reporter: this is .*\n.*PlainReporter\(\)"),
    ],
)
def test_arguments_of_another_type_are_refused(
    arguments: dict[str, Any], message: str, recipe_of: Callable[..., Recipe]
) -> None:
    with pytest.raises(UserError, match=message):
        run_recipe(recipe_of(), **arguments)


def test_progress_is_on_standard_error_where_it_is_asked_for(
    recipe_of: Callable[..., Recipe], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run_recipe(recipe_of(), output_dir=tmp_path / "silent")
    assert "loading" not in "".join(capfd.readouterr())
    run_recipe(recipe_of(), output_dir=tmp_path / "told", reporter=peftlab.PlainReporter())
    told = capfd.readouterr()
    assert "loading" in told.err
    assert told.out == ""


def test_a_program_keeps_its_own_random_numbers(recipe_of: Callable[..., Recipe], tmp_path: Path) -> None:
    torch.manual_seed(7)
    before = torch.get_rng_state()
    run_recipe(recipe_of(), output_dir=tmp_path / "run")
    assert torch.equal(torch.get_rng_state(), before), "else all that is drawn after a run would be of its seed"
    peftlab.load(tmp_path / "run").predict(["a good day"])
    assert torch.equal(torch.get_rng_state(), before)


def test_a_result_draws_its_curves(of_rows: RunResult, tmp_path: Path) -> None:
    curves = of_rows.plot()
    svg = ElementTree.fromstring(curves._repr_svg_())  # noqa: S314 - our own
    assert {item.attrib["class"] for item in svg.iter("{http://www.w3.org/2000/svg}polyline")} == {"curve"}
    assert len(list(svg.iter("{http://www.w3.org/2000/svg}polyline"))) == 2
    assert "Validation accuracy" in curves.svg
    assert "training loss" in repr(curves)
    (encoded,) = re.findall(r'src="data:image/svg\+xml;base64,([^"]+)"', curves._repr_html_())
    assert base64.b64decode(encoded).decode() == curves.svg
    assert curves.save(tmp_path / "curves.svg").read_text() == curves.svg + "\n"
    with pytest.raises(UserError, match=r"ends on \.svg"):
        curves.save(tmp_path / "curves.png")
    (of_rows.folder / "metrics.jsonl").rename(tmp_path / "kept.jsonl")
    with pytest.raises(UserError, match="the run logged no step"):
        of_rows.plot()
    (tmp_path / "kept.jsonl").rename(of_rows.folder / "metrics.jsonl")

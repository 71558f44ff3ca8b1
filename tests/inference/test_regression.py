"""Targets of any mean and size: learned in standard deviations, given back in their own unit, wherever they are used."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from peftlab.core.errors import DataError
from peftlab.core.reporter import Silent
from peftlab.core.splits import Split
from peftlab.data.data_config import DataConfig
from peftlab.data.streaming import stream_file
from peftlab.inference.evaluate_rows import evaluate_rows
from peftlab.inference.export.export import export_run
from peftlab.inference.load_tuned import load_tuned
from peftlab.inference.predict import rounded
from peftlab.recipe.schema import load_recipe
from peftlab.run.run import run_recipe
from peftlab.tasks.text_regression import TextRegression
from peftlab.testing.tiny_bases import NEUTRAL
from tests.conftest import MadeOnce

pytestmark = pytest.mark.slow

RECIPE = """\
model: {{path: {model}}}
task: {{type: text_regression, max_length: 32}}
data: {{source: {data}, validation_fraction: 0.2}}
method: {{type: lora, rank: 4}}
training: {{max_steps: 90, batch_size: 8, learning_rate: 4e-3}}
measure: false
"""


TunedRun = Callable[[str, float, float], Path]


@pytest.fixture(scope="module")
def tuned_run(made_once: MadeOnce, tiny_bert: Path, tiny_gpt2: Path) -> TunedRun:
    """Runs on texts whose target is one of two numbers, by their words; each is made once, and read only."""

    def run(base: str, shift: float, scale: float) -> Path:
        def write(folder: Path) -> None:
            words = itertools.product(["good", "bad"], NEUTRAL, NEUTRAL[:10])
            rows = [f"{' '.join(text)},{shift + scale * (1 if text[0] == 'good' else -1)!r}\n" for text in words]
            (folder / "targets.csv").write_text("text,label\n" + "".join(rows))
            model = {"bert": tiny_bert, "gpt2": tiny_gpt2}[base]
            (folder / "recipe.yaml").write_text(RECIPE.format(model=model, data=folder / "targets.csv"))
            recipe, document = load_recipe(folder / "recipe.yaml")
            result = run_recipe(recipe, document, output_dir=folder / "run")
            assert result.record.status == "success", result.record.error

        return made_once(f"numbers-{base}-{shift}-{scale}", write) / "run"

    return run


def predictions(folder: Path, texts: list[str]) -> list[float]:
    tuned = load_tuned(folder)
    encoded = tuned.encode(Split("data", range(len(texts)), {"text": texts}))
    return [item.prediction for item in tuned.predict(encoded.examples)]


@pytest.mark.parametrize(
    ("shift", "scale", "base"),
    [
        (250_000, 60_000, "bert"),
        (-1e-9, 1e-12, "bert"),
        (1.7e9, 1.0, "bert"),
        (0, 1e200, "bert"),
        (3.0, 2.0, "gpt2"),
    ],
)
def test_targets_come_back_in_their_own_unit(tuned_run: TunedRun, shift: float, scale: float, base: str) -> None:
    run = tuned_run(base, shift, scale)
    record = json.loads((run / "record.json").read_text())
    assert record["learned"]["target_scale"] == pytest.approx(scale, rel=0.1)
    assert record["scores"]["test"]["spearman"] > 0.6
    assert record["scores"]["test"]["mean_absolute_error"] < 0.7 * scale
    bad, good = predictions(run, ["bad film day", "good film day"])
    assert (good - bad) / scale > 0.8
    assert abs((good + bad) / 2 - shift) / scale < 0.7
    tuned = load_tuned(run)
    data = run.parent / "targets.csv"
    found = evaluate_rows(
        tuned, stream_file(data, DataConfig(source=str(data)), keep=["text", "label"]), Silent(), offline=True
    )
    assert found.scores["mean_absolute_error"] < 0.7 * scale
    assert found.scores["spearman"] > 0.6


@pytest.mark.parametrize(
    ("kind", "base", "is_complete"),
    [("merged", "bert", True), ("merged", "gpt2", False), ("onnx", "gpt2", True)],
)
def test_exports_give_the_unit_of_the_targets(
    tuned_run: TunedRun, tmp_path: Path, kind: Any, base: str, is_complete: bool
) -> None:
    run = tuned_run(base, 250_000, 60_000)
    output = tmp_path / "export"
    export_run(run, kind, output, offline=True, reporter=Silent())
    texts = ["bad film day", "good film day"]
    expected = predictions(run, texts)
    assert predictions(output, texts) == pytest.approx(expected, rel=1e-3)
    card = (output / "README.md").read_text()
    assert ("multiply by" in card) is not is_complete
    if kind == "merged":
        outside = merged_outputs(output, texts)
        if not is_complete:
            config = json.loads((output / "config.json").read_text())
            outside = [value * config["target_scale"] + config["target_mean"] for value in outside]
    else:
        outside = onnx_outputs(output, texts)
    assert outside == pytest.approx(expected, rel=1e-3)


def merged_outputs(folder: Path, texts: list[str]) -> list[float]:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer, model = (
        AutoTokenizer.from_pretrained(folder),
        AutoModelForSequenceClassification.from_pretrained(folder),
    )
    return [float(model(**tokenizer(text, return_tensors="pt")).logits) for text in texts]


def onnx_outputs(folder: Path, texts: list[str]) -> list[float]:
    import onnxruntime
    from transformers import AutoTokenizer

    session = onnxruntime.InferenceSession(folder / "model.onnx")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    names = {item.name for item in session.get_inputs()}
    values = []
    for text in texts:
        # Two rows: the exporter has no batch of one.
        encoded = tokenizer([text, text], return_tensors="np")
        inputs = {name: np.asarray(encoded[name], np.int64) for name in names}
        values.append(float(session.run(["logits"], inputs)[0][0, 0]))
    return values


def split(*targets: Any) -> Split:
    return Split("train", range(len(targets)), {"text": ["x"] * len(targets), "label": list(targets)}, "rows.csv")


@pytest.mark.parametrize("targets", [(3, 3.0, "3"), (1e308, 1e308), (0.0, -0.0), (5e-324, 5e-324)])
def test_targets_that_are_all_equal_are_refused(targets: tuple[Any, ...]) -> None:
    with pytest.raises(DataError, match="same target"):
        TextRegression().learn_labels(split(*targets))


@pytest.mark.parametrize("targets", [(1.0, math.nan), (1.0, "inf"), ("1.5", "many"), (1.0, None)])
def test_targets_that_are_no_numbers_are_named(targets: tuple[Any, ...]) -> None:
    with pytest.raises(DataError, match=r"rows\.csv, row 2: .*not a finite number"):
        TextRegression().learn(split(*targets))


@pytest.mark.parametrize("targets", [(1e308, -1e308), (1e-300, 3e-300), (1e9, 1e9 + 1), (1, 2, 3)])
def test_statistics_are_those_of_numpy(targets: tuple[float, ...]) -> None:
    learned = TextRegression().learn(split(*targets))
    exact = np.array(targets, np.longdouble)
    assert learned["target_mean"] == pytest.approx(float(exact.mean()), abs=1e-9 * float(exact.std()))
    assert learned["target_scale"] == pytest.approx(float(exact.std()), rel=1e-6)


def test_targets_far_from_zero_are_told_and_usual_ones_are_not() -> None:
    for targets, told in [((250_000, 130_000), True), ((0.0, 5.0), False), ((1e-6, 2e-6), True)]:
        task = TextRegression().fitted(TextRegression().learn(split(*targets)))
        assert bool(task.notices({}, ())) is told


def test_runs_of_earlier_versions_keep_their_numbers() -> None:
    import torch

    task = TextRegression()
    batch = {"labels": torch.tensor([0.5]), "targets": torch.tensor([0.5], dtype=torch.float64)}
    (prediction,) = task.predict(torch.tensor([[1.25]]), batch, ())
    assert (prediction.prediction, prediction.label) == (1.25, 0.5)


def test_small_numbers_are_not_rounded_away() -> None:
    assert rounded({"prediction": 3.14159265e-9}) == {"prediction": 3.14159e-9}
    assert rounded([0.123456789, 250_000.123456789, 0.0]) == [0.123457, 250_000.123457, 0.0]

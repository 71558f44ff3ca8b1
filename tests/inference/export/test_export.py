"""Exports say what their run says, also to programs that have never heard of peftlab."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import onnx
import pyarrow.parquet as pq
import pytest

from peftlab.artifact.export_formats import FORMATS, ExportFormat
from peftlab.artifact.saved_export import read_export
from peftlab.core.errors import RunFailedError, UnsupportedError, UserError
from peftlab.core.reporter import Silent
from peftlab.inference.export.export import export_run
from tests.conftest import sentences

pytestmark = pytest.mark.slow
TOKENS = "{type: token_classification, max_length: 32}"

STRANGER = """
import json, sys

sys.modules["peftlab"] = sys.modules["peft"] = None  # importing them fails
import numpy, torch, transformers

def logits_of(folder, kind):
    if kind == "merged":
        model = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
        def logits(inputs):
            with torch.inference_mode():
                return model(**inputs).logits.numpy()
    else:
        import onnxruntime
        session = onnxruntime.InferenceSession(folder + "/model.onnx")
        wanted = [item.name for item in session.get_inputs()]
        def logits(inputs):
            return session.run(["logits"], {name: inputs[name].numpy() for name in wanted})[0]
    return logits

out = []
for folder, kind, texts in json.load(sys.stdin):
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    names = transformers.AutoConfig.from_pretrained(folder).id2label
    logits = logits_of(folder, kind)
    answers = []
    for text in texts:
        raw = logits(tokenizer(text, return_tensors="pt"))[0].astype(numpy.float64)
        scores = numpy.exp(raw - raw.max())
        scores /= scores.sum()
        answers.append([names[int(scores.argmax())], scores.tolist()])
    out.append(answers)
print(json.dumps(out))
"""
CASES = [
    ("{type: lora, rank: 4}", "bert", "merged"),
    ("{type: bitfit}", "bert", "merged"),
    ("{type: lora, rank: 4}", "bert", "onnx"),
    ("{type: full}", "bert", "merged"),
    ("{type: lora, rank: 4}", "gpt2", "merged"),
]


def told_by_run(run: Path, source: Path) -> tuple[list[dict], list[str]]:
    """The test rows of a run's predictions, and their texts."""
    rows = [row for row in pq.read_table(run / "predictions.parquet").to_pylist() if row["split"] == "test"]
    lines = source.read_text().splitlines()[1:]
    return rows, [lines[row["index"]].rpartition(",")[0] for row in rows]


def export(run: Path, kind: str, output: Path):
    return export_run(run, kind, output, offline=True, reporter=Silent())


def test_a_stranger_predicts_the_same(tiny_run: Callable[..., Path], reviews: Path, tmp_path: Path) -> None:
    jobs, expected = [], []
    for number, (method, base, kind) in enumerate(CASES):
        run = tiny_run(method, base=base)
        rows, texts = told_by_run(run, reviews)
        check = export(run, kind, tmp_path / str(number)).check
        assert check.split == "validation"
        assert check.examples == len(pq.read_table(run / "predictions.parquet")) - len(rows)
        jobs.append((str(tmp_path / str(number)), kind, texts))
        expected.append(rows)
    done = subprocess.run(
        [sys.executable, "-c", STRANGER], input=json.dumps(jobs), capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    for case, rows, answers in zip(CASES, expected, json.loads(done.stdout), strict=True):
        for row, (prediction, scores) in zip(rows, answers, strict=True):
            assert scores == pytest.approx(row["scores"], abs=1e-4), case
            assert prediction == row["prediction"] or abs(row["scores"][0] - row["scores"][1]) < 1e-3


def test_int8_is_smaller_and_close(tiny_run: Callable[..., Path], tmp_path: Path) -> None:
    run = tiny_run(steps=160)  # what is sure of its answers keeps them when it is rounded
    output, one_of_38 = tmp_path / "small", 0.03
    small = export_run(run, "onnx-int8", output, offline=True, reporter=Silent(), max_score_loss=one_of_38)
    weights = onnx.load(tmp_path / "small" / "model.onnx").graph.initializer
    matrices = [weight for weight in weights if weight.data_type == onnx.TensorProto.INT8 and len(weight.dims) == 2]
    assert len(matrices) >= 12  # six of each of the two layers
    assert small.check.greatest_logit_difference > 0
    assert small.check.equal_predictions >= 0.95
    assert not list((tmp_path / "small").glob("float32*"))
    assert read_export(tmp_path / "small") == small


def test_tokens_are_exported_too(tiny_run: Callable[..., Path], entities: Path, tmp_path: Path) -> None:
    run = tiny_run(task=TOKENS, data=entities, steps=120)
    check = export(run, "onnx", tmp_path / "onnx").check
    assert check.equal_predictions == 1.0
    assert check.scores["f1"] == check.run_scores["f1"] > 0


@pytest.mark.parametrize("method", ["{type: prompt_tuning}", "{type: houlsby_adapter}"])
def test_what_cannot_be_merged_is_refused(method: str, tiny_run: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="cannot be folded"):
        export(tiny_run(method), "merged", tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_an_export_that_differs_is_not_kept(tiny_run: Callable[..., Path], tmp_path: Path, monkeypatch) -> None:
    import torch

    import peftlab.artifact.merge

    def careless(model, method):
        merged = model.merge_and_unload()
        torch.nn.init.zeros_(merged.classifier.weight)
        return merged

    monkeypatch.setattr(peftlab.artifact.merge, "merge", careless)
    with pytest.raises(RunFailedError, match="not the same as its run"):
        export(tiny_run(), "merged", tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_all_that_is_known_of_a_format_is_in_one_table() -> None:
    assert set(FORMATS) == set(get_args(ExportFormat))
    assert {form.file is None for form in FORMATS.values() if form.library == "transformers"} == {True}


def test_an_export_that_a_kill_has_kept_silent_is_found(tiny_run: Callable[..., Path], tmp_path: Path) -> None:
    """Its folder had its name already, and the next call was refused for it."""
    done = export(tiny_run(), "merged", tmp_path / "out")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    assert export(tiny_run(), "merged", tmp_path / "out") == done
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()} == before
    for run, kind in ((tiny_run(seed=1), "merged"), (tiny_run(), "onnx")):
        with pytest.raises(UserError, match="not empty"):
            export(run, kind, tmp_path / "out")
    with pytest.raises(UserError, match="not empty"):  # a limit that is no number is no reason for a traceback
        export_run(tiny_run(), "merged", tmp_path / "out", offline=True, reporter=Silent(), max_score_loss=float("nan"))
    (tmp_path / "out" / "model.safetensors").unlink()
    with pytest.raises(UserError, match="not empty"):
        export(tiny_run(), "merged", tmp_path / "out")


def test_bad_input(tiny_run: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("kept")
    with pytest.raises(UserError, match="not empty"):
        export(tiny_run(), "merged", tmp_path / "full")
    assert (tmp_path / "full" / "mine.txt").read_text() == "kept"
    with pytest.raises(UserError, match="no record"):
        export(tmp_path / "full", "merged", tmp_path / "out")
    with pytest.raises(UserError, match="no such folder"):
        export(tmp_path / "nothing", "merged", tmp_path / "out")
    failed = tmp_path / "failed"
    shutil.copytree(tiny_run(), failed)
    record = json.loads((failed / "record.json").read_text())
    (failed / "record.json").write_text(json.dumps({**record, "status": "diverged", "error": "the loss is nan"}))
    with pytest.raises(UserError, match="diverged"):
        export(failed, "merged", tmp_path / "out")


@pytest.mark.parametrize(("base", "kind"), [("bert", "merged"), ("gpt2", "merged"), ("gpt2", "onnx")])
def test_a_run_in_half_precision_is_exported(base: str, kind, tiny_run: Callable[..., Path], tmp_path: Path) -> None:
    """Its own last digits are rounding, so that an export that has others must not be refused for them."""
    run = tiny_run(base=base, dtype="bfloat16")
    check = export_run(run, kind, tmp_path / kind, offline=True, reporter=Silent(), max_score_loss=0.05).check
    assert check is not None
    assert check.equal_predictions >= 0.95
    assert 1e-4 < check.greatest_logit_difference < 0.2


NUMBERS = {
    "reranking": "{type: reranking, query: query, document: document, negatives: [no], max_length: 32}",
    "text_regression": "{type: text_regression, text: query, label: length, max_length: 32}",
    "text_embedding": "{type: text_embedding, query: query, document: document, max_length: 32}",
    "reward_model": "{type: reward_model, prompt: query, chosen: document, rejected: no, max_length: 48}",
}
"""Tasks whose answers are numbers."""


@pytest.fixture
def numbers(made_once: Callable[..., Path]) -> Path:
    """Texts, each with its end read backwards, with that of another one, and with its length."""

    def write(folder: Path) -> None:
        texts = [text for text, _ in sentences(96)]
        rows = [
            {"query": text, "document": text[::-1][:16], "no": texts[at - 1][::-1][:16], "length": len(text)}
            for at, text in enumerate(texts)
        ]
        (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    return made_once("numbers", write) / "rows.jsonl"


@pytest.mark.parametrize(
    ("task", "kind"),
    [*[(task, "merged") for task in NUMBERS], *[(task, "onnx") for task in NUMBERS if task != "text_embedding"]],
)
def test_numbers_in_half_precision_are_as_equal_as_it_can_tell(
    task: str, kind, tiny_run: Callable[..., Path], numbers: Path, tmp_path: Path
) -> None:
    """Between 2 and 4 bfloat16 has steps of 1/64, whatever the range is in which the predictions lie."""
    base = "gpt2" if task == "reward_model" else "bert"
    run = tiny_run(task=NUMBERS[task], data=numbers, base=base, dtype="bfloat16", steps=8)
    check = export_run(run, kind, tmp_path / kind, offline=True, reporter=Silent(), max_score_loss=0.1).check
    assert check.equal_predictions >= 0.95
    assert check.greatest_logit_difference > 1e-4


@pytest.mark.parametrize("task", NUMBERS)
def test_half_precision_excuses_no_other_model(
    task: str, tiny_run: Callable[..., Path], numbers: Path, tmp_path: Path, monkeypatch
) -> None:
    import torch

    import peftlab.artifact.merge

    def careless(model, method):
        merged = model.unload()
        for parameter in merged.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
        return merged

    base = "gpt2" if task == "reward_model" else "bert"
    run = tiny_run(task=NUMBERS[task], data=numbers, base=base, dtype="bfloat16", steps=8)
    monkeypatch.setattr(peftlab.artifact.merge, "merge", careless)
    with pytest.raises(RunFailedError, match="of the predictions are equal"):
        export_run(run, "merged", tmp_path / "out", offline=True, reporter=Silent(), max_score_loss=10.0)

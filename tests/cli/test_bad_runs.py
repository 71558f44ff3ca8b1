"""Verbs that use a run, and runs that cannot be used: a clear message, exit code 2, and nothing half-written."""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

VERBS = {
    "predict": ["predict", "{run}", "a film"],
    "evaluate": ["evaluate", "{run}", "--data", "{table}"],
    "export": ["export", "{run}", "--format", "merged", "--output", "out"],
    "serve": ["serve", "{run}", "--port", "0"],
    "explain": ["explain", "{run}", "a film"],
}
EXPECTED = {
    "failed": ["status diverged", "the loss is nan"],
    "cancelled": ["status cancelled"],
    "unfinished": ["no record.json", "--resume"],
    "no run": ["no record.json"],
    "no folder": ["no such folder"],
    "a file": ["this is a file"],
    "another base": ["does not fit this base model", "model_type"],
    "no base": ["nowhere", "which is needed to use it"],
    "no weights": ["no adapter/", "weights are missing"],
    "damaged weights": ["the adapter is damaged"],
    "damaged record": ["the record is damaged"],
}


def broken(kind: str, run: Path, tiny_bert: Path, tiny_gpt2: Path, folder: Path) -> None:
    """A copy of a run that cannot be used."""
    if kind == "no folder":
        return
    if kind == "a file":
        folder.write_text("words")
        return
    if kind == "no run":
        folder.mkdir()
        return
    shutil.copytree(run, folder)
    record, recipe = folder / "record.json", folder / "recipe.yaml"
    weights = folder / "adapter" / "adapter_model.safetensors"
    if kind in ("failed", "cancelled"):
        change = {"failed": {"status": "diverged", "error": "the loss is nan"}, "cancelled": {"status": "cancelled"}}
        record.write_text(json.dumps({**json.loads(record.read_text()), **change[kind]}))
    elif kind == "unfinished":
        record.unlink()
        (folder / "checkpoints").mkdir(exist_ok=True)
    elif kind == "no weights":
        shutil.rmtree(folder / "adapter")
    elif kind == "damaged weights":
        weights.write_bytes(weights.read_bytes()[:-9])
    elif kind == "damaged record":
        record.write_text(record.read_text()[:-40])
    else:
        other = tiny_gpt2 if kind == "another base" else tiny_bert.parent / "nowhere"
        assert str(tiny_bert) in recipe.read_text()
        recipe.write_text(recipe.read_text().replace(str(tiny_bert), str(other)))


@pytest.mark.parametrize("kind", EXPECTED)
def test_a_run_that_cannot_be_used(
    kind: str, command, tiny_run: Callable[..., Path], tiny_bert: Path, tiny_gpt2: Path, tmp_path: Path
) -> None:
    broken(kind, tiny_run(), tiny_bert, tiny_gpt2, tmp_path / "run")
    (tmp_path / "table.csv").write_text("text,label\na film,good\n")
    before = sorted(tmp_path.rglob("*"))
    for verb, words in VERBS.items():
        done = command(*[word.format(run=tmp_path / "run", table=tmp_path / "table.csv") for word in words])
        assert done.returncode == 2, (verb, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr, (verb, done.stderr)
        for text in EXPECTED[kind]:
            assert text in done.stderr, (verb, done.stderr)
        assert sorted(tmp_path.rglob("*")) == before, verb


def test_exports_that_make_no_sense(command, tiny_run: Callable[..., Path], tmp_path: Path) -> None:
    run, other = tiny_run(), tiny_run(seed=1)
    done = command("export", run, "--format", "merged", "--output", "out")
    assert done.returncode == 0, done.stderr
    for words, expected in {
        ("export", "out", "--format", "onnx", "--output", "two"): "this is an export",
        ("export", run, "--format", "tflite", "--output", "two"): "tflite",
        ("export", run, "--format", "gguf", "--output", "two"): "write from left to right",
        ("export", run, "--format", "merged", "--output", "two", "--weights", "1"): "there is one",
        ("export", run, other, "--format", "merged", "--output", "two", "--weights", "a,b"): "no list of numbers",
        ("export", run, other, "--format", "merged", "--output", "two", "--weights", "1,1,1"): "3 weights for 2 runs",
        ("export", run, "out", "--format", "merged", "--output", "two"): "this is an export",
        ("export", other, "--format", "merged", "--output", "out"): "not empty",
    }.items():
        done = command(*words)
        assert done.returncode == 2, (words, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
        assert expected in done.stderr, (words, done.stderr)
    assert {item.name for item in tmp_path.iterdir()} == {"out"}


@pytest.mark.parametrize("combine", ["linear", "ties", "dare"])
def test_the_scores_of_a_merge_are_printed(
    combine: str, command, tiny_run: Callable[..., Path], tmp_path: Path
) -> None:
    runs = [tiny_run(), tiny_run(seed=1)]
    words = ["--format", "merged", "--output", "out", "--combine", combine, "--weights", "0.7,0.3"]
    done = command("export", *runs, *words, "--json")
    assert done.returncode == 0, done.stderr
    parts = json.loads(done.stdout)["composed_of"]
    assert [part["weight"] for part in parts] == [0.7, 0.3]
    assert all(part["scores"].keys() == part["run_scores"].keys() for part in parts)
    own = [json.loads((run / "record.json").read_text())["scores"]["validation"]["accuracy"] for run in runs]
    assert [part["run_scores"]["accuracy"] for part in parts] == pytest.approx(own, abs=1e-6)
    evaluated = command("predict", "out", "a lovely film", "--json")
    assert evaluated.returncode == 0, evaluated.stderr


def test_a_port_in_use(command, tiny_run: Callable[..., Path]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = command("serve", tiny_run(), "--port", port)
    assert done.returncode == 2
    assert f"cannot listen on 127.0.0.1, port {port}" in done.stderr
    assert "loading" not in done.stderr  # told before anything is loaded

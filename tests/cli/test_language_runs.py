"""Language tasks through the real command: pre-train, start from that run, generate, talk."""

from __future__ import annotations

import csv
import io
import json
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from peftlab.testing.tiny_bases import NEUTRAL
from tests.conftest import Command
from tests.language_models import MACHINE_RECIPE

pytestmark = pytest.mark.slow

WORDS = [*NEUTRAL, "good", "bad", "lovely", "kind"]

PRETRAIN = """\
name: words
model: {{from_config: {{model_type: gpt2, n_layer: 2, n_head: 2, n_embd: 32, n_positions: 64, vocab_size: 300}}}}
task: {{type: causal_lm, max_length: 32}}
data: {{source: {data}}}
method: {{type: full}}
training: {{epochs: 2, batch_size: 8, learning_rate: 5e-3}}
"""
TUNE = """\
name: echo
model: {{path: {base}}}
task: {{type: instruction_tuning, max_length: 32, max_new_tokens: 4}}
data: {{source: {data}}}
method: {{type: lora, rank: 4}}
training: {{epochs: 1, batch_size: 16, learning_rate: 1e-2}}
evaluation: {{metric: exact_match}}
"""


def read_json(path: Path) -> Any:
    return json.loads(path.read_text())


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    generator, file = random.Random(0), tmp_path_factory.mktemp("text") / "corpus.txt"
    file.write_text("\n\n".join(" ".join(generator.choices(WORDS, k=25)) for _ in range(60)))
    return file


UNMEASURED = ("--set", "measure=false")


@pytest.fixture(scope="module")
def questions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    generator, file = random.Random(1), tmp_path_factory.mktemp("rows") / "rows.csv"
    with file.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["prompt", "response"])
        for _ in range(60):
            words = generator.choices(WORDS, k=4)
            writer.writerow([" ".join(words), words[0]])
    return file


@pytest.fixture
def pretrained(command: Command, tmp_path: Path, corpus: Path) -> Path:
    (tmp_path / "pretrain.yaml").write_text(PRETRAIN.format(data=corpus))
    finished = command("run", "pretrain.yaml", "--output-dir", "base")
    assert finished.returncode == 0, finished.stderr
    return tmp_path / "base"


def test_a_run_starts_where_another_ended(
    command: Command, tmp_path: Path, pretrained: Path, questions: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = read_json(pretrained / "record.json")["scores"]["test"]
    assert 1 < scores["perplexity_low"] < scores["perplexity"] < scores["perplexity_high"]
    assert scores["perplexity"] < 60  # there are sixteen words: it has learned which tokens there are
    (tmp_path / "tune.yaml").write_text(TUNE.format(base=pretrained, data=questions))
    untold = ("--set", "waive_guards=[answers_vary]")  # a tiny model may write one text to every prompt
    finished = command("run", "tune.yaml", "--output-dir", "tuned", *untold)
    assert finished.returncode == 0, finished.stderr
    record = read_json(tmp_path / "tuned" / "record.json")
    assert {"exact_match", "rouge_l", "chrf", "distinct_1", "loss"} <= set(record["scores"]["test"])
    assert record["throughput"]["flops_utilization"] > 0
    rows = pq.read_table(tmp_path / "tuned" / "predictions.parquet").to_pylist()
    assert all(isinstance(row["prediction"], str) and row["label"] for row in rows)

    # A third run goes on from the adapter, which is merged into its base for that.
    finished = command("run", "tune.yaml", "--set", "model.path=tuned", "--output-dir", "third", *untold, *UNMEASURED)
    assert finished.returncode == 0, finished.stderr
    first = command("validate", "tune.yaml", "--set", "model.path=nowhere/at/all")
    assert first.returncode == 2

    monkeypatch.setattr(
        sys, "stdin", io.StringIO("the film was\n/adapter none\nthe film was\n/adapter nowhere\n/what\n")
    )
    talked = command("chat", "tuned", "--max-new-tokens", "5")
    assert talked.returncode == 0, talked.stderr
    assert len(talked.stdout.splitlines()) == 2
    assert "The base answers now" in talked.stderr
    assert "nowhere: no such folder" in talked.stderr
    assert "unknown command /what" in talked.stderr


def test_an_adapter_that_cannot_be_merged_is_no_beginning(
    command: Command, tmp_path: Path, tiny_gpt2: Path, questions: Path
) -> None:
    (tmp_path / "tune.yaml").write_text(TUNE.format(base=tiny_gpt2, data=questions))
    keys = ["--set", "method.type=prefix_tuning", "--set", "method.num_virtual_tokens=4"]
    finished = command("run", "tune.yaml", *keys, *UNMEASURED, "--output-dir", "prefix")
    assert finished.returncode == 0, finished.stderr
    again = command("run", "tune.yaml", "--set", "model.path=prefix")
    assert again.returncode == 2
    assert "prefix_tuning, which cannot be merged into its base" in again.stderr


def test_machines_need_no_data_section(command: Command, tmp_path: Path) -> None:
    (tmp_path / "machine.yaml").write_text(MACHINE_RECIPE)
    finished = command("run", "machine.yaml", "--output-dir", "run")
    assert finished.returncode == 0, finished.stderr
    record = read_json(tmp_path / "run" / "record.json")
    splits = {"validation", "test", "test_longer_tapes", "test_unseen_machines", "test_more_states"}
    assert set(record["scores"]) == splits
    assert set(record["data"]["rows"]) == splits | {"train"}
    lora = command("run", "machine.yaml", "--set", "method.type=lora")
    assert lora.returncode == 2
    assert "starts from nothing" in lora.stderr


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["model.from_config={model_type: gpt2, n_layers: 2}"], "gpt2 has no setting `n_layers`"),
        (["model.from_config={model_type: gtp2}"], "no model type `gtp2`"),
        (["model.from_config={n_layer: 2}"], "needs a `model_type`"),
        (["task.machines=[binary_incremet]"], "unknown machine `binary_incremet`"),
        (["task.max_length=20"], "Raise it to"),
        (["task.type=causal_lm"], "data: this key is required"),
    ],
)
def test_bad_recipes_are_told_before_anything_is_trained(
    command: Command, tmp_path: Path, changes: list[str], message: str
) -> None:
    (tmp_path / "machine.yaml").write_text(MACHINE_RECIPE)
    finished = command("run", "machine.yaml", *(part for change in changes for part in ("--set", change)))
    assert finished.returncode == 2, finished.stderr
    assert message in finished.stderr
    assert not list((tmp_path / "runs").glob("*")) if (tmp_path / "runs").exists() else True


def test_one_cannot_talk_to_a_classifier(command: Command, tiny_run: Callable[..., Path]) -> None:
    finished = command("chat", tiny_run())
    assert finished.returncode == 2
    assert "does not write text" in finished.stderr

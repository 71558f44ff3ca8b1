"""Estimates of language tasks through the real command: from the data's own labels, or from as many as there can be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("few_questions")]

RECIPE = """\
name: tiny
model: {{path: {model}}}
task: {{type: instruction_tuning, max_length: 40, max_new_tokens: 4}}
data: {{source: {data}, validation_fraction: 0.2}}
method: {{type: lora, rank: 4, alpha: 8}}
training: {{max_steps: 2, batch_size: 8}}
evaluation: {{metric: loss}}
"""
MACHINE = """\
name: machine
model: {from_config: {model_type: gpt2, n_layer: 2, n_head: 2, n_embd: 32, n_positions: 256}}
task: {type: turing_machine, machine_count: 16, train_runs: 60, validation_runs: 10, test_runs: 10}
method: {type: full}
training: {max_steps: 2, batch_size: 8}
"""


@pytest.fixture
def instructions(tmp_path: Path, tiny_gpt2: Path) -> Path:
    rows = [
        {"prompt": f"the film was {'good and ' * (n % 5)}sad", "response": "we saw " * (n % 3 + 1)} for n in range(60)
    ]
    data = tmp_path / "rows.jsonl"
    data.write_text("\n".join(map(json.dumps, rows)))
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE.format(model=tiny_gpt2, data=data))
    return path


def test_the_datas_own_labels_are_counted(command, instructions: Path, tmp_path: Path) -> None:
    done = command("estimate", instructions, "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["length_from"] == "data"
    assert 8 <= told["loss_terms"] < told["batch_size"] * told["length"]
    assert "evaluation writes" in told["notes"][0]
    assert command("run", instructions, "--output-dir", "out").returncode == 0
    record = json.loads((tmp_path / "out" / "record.json").read_text())
    assert told["phases"]["train"] == pytest.approx(record["phases"]["train"]["peak_memory_bytes"], rel=0.03)


def test_without_data_every_token_carries_a_label(command, instructions: Path) -> None:
    instructions.write_text(instructions.read_text().replace("rows.jsonl", "none.jsonl"))
    instructions.write_text(instructions.read_text().replace(str(instructions.parent) + "/none.jsonl", "some/where"))
    told = json.loads(command("estimate", instructions, "--json").stdout)
    assert told["length_from"] == "task.max_length"
    assert told["loss_terms"] == 8 * 40 - 1
    text = command("estimate", instructions).stdout
    assert "319 of its tokens carry a label: as many as can" in text


def test_a_model_that_starts_from_nothing_has_its_tokenizers_size(command, tmp_path: Path) -> None:
    path = tmp_path / "machine.yaml"
    path.write_text(MACHINE)
    done = command("estimate", path, "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert command("run", path, "--output-dir", "out").returncode == 0
    record = json.loads((tmp_path / "out" / "record.json").read_text())
    assert told["categories"]["parameters"] == record["memory"]["parameters_bytes"]
    assert told["phases"]["train"] == pytest.approx(record["phases"]["train"]["peak_memory_bytes"], rel=0.03)

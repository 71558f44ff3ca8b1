"""`model.acceleration`: off gives the losses and answers of auto, and the record says what was computed faster."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from peftlab.recipe.schema import load_recipe
from peftlab.run.run import run_recipe

RECIPE = """\
model: {{path: {model}, acceleration: {acceleration}}}
task: {{type: {task}, max_length: 32}}
data: {{source: {data}, validation_fraction: 0.2}}
method: {{type: lora, rank: 2}}
measure: false
training: {{max_steps: 6, batch_size: 8, log_every_steps: 1}}
"""


@pytest.mark.parametrize(("family", "parts"), [("bert", {"first_token", "lora_linear"}), ("gpt2", {"lora_linear"})])
def test_a_run_without_acceleration(
    family: str, parts: set[str], tmp_path: Path, tiny_bert: Path, tiny_gpt2: Path, reviews: Path
) -> None:
    losses, records = {}, {}
    for acceleration in ("auto", "off"):
        path = tmp_path / f"{acceleration}.yaml"
        model = {"bert": tiny_bert, "gpt2": tiny_gpt2}[family]
        text = RECIPE.format(model=model, data=reviews, task="text_classification", acceleration=acceleration)
        path.write_text(text)
        result = run_recipe(*load_recipe(path), output_dir=tmp_path / acceleration)
        records[acceleration] = result.record
        lines = (tmp_path / acceleration / "metrics.jsonl").read_text().splitlines()
        losses[acceleration] = [line["loss"] for line in map(json.loads, lines) if "loss" in line]
    assert len(losses["auto"]) == 6
    assert losses["off"] == pytest.approx(losses["auto"], rel=1e-5)
    assert parts <= set(records["auto"].acceleration or {})
    assert records["off"].acceleration == {}
    assert records["off"].scores["validation"]["auroc"] == pytest.approx(records["auto"].scores["validation"]["auroc"])

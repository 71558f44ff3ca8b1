"""A copy of the base that stands beside the model, and stored references: estimates have them as runs do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import peftlab
from peftlab.core.config import Document
from peftlab.estimate.recipe import estimate_recipe
from peftlab.estimate.target import Target
from peftlab.preparation.check import check_model
from peftlab.recipe.schema import build_recipe
from tests.conftest import sentences
from tests.estimate.test_shapes import LABELS, checked_model, measured, placeholder_batch

pytestmark = pytest.mark.slow
CPU = Target("cpu", None)


def base_bytes(folder: Path) -> int:
    import transformers

    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    return sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())


def test_the_copy_of_the_base_that_reinforcement_needs(tiny_gpt2: Path, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    texts = [text for text, _ in sentences(24)]
    rows.write_text("".join(json.dumps({"prompt": text, "response": "good"}) + "\n" for text in texts))
    peaks, estimates = [], []
    for kl in (0.0, 0.1):
        values = {
            "name": "copies",
            "model": {"path": str(tiny_gpt2)},
            "task": {
                "type": "reinforcement",
                "rewards": [{"type": "exact_match"}],
                "group_size": 2,
                "max_response_tokens": 4,
                "max_length": 24,
                "kl": kl,
            },
            "data": {"source": str(rows), "validation_fraction": 0.2, "test_fraction": 0.2},
            "method": {"type": "lora"},
            "training": {"max_steps": 1, "batch_size": 4},
        }
        done = peftlab.run_recipe(peftlab.Recipe.from_dict(values), output_dir=tmp_path / str(kl))
        assert done.record.memory is not None, done.record.error
        peaks.append(done.record.memory)
        document = Document(source="test", values=values)
        checked = check_model(build_recipe(document, default_name="t"), document, offline=True, need_weights=False)
        estimates.append(estimate_recipe(checked, CPU, advise=False).memory)
    own = base_bytes(tiny_gpt2)
    assert peaks[1].parameters_bytes - peaks[0].parameters_bytes == pytest.approx(own, rel=0.02)
    first, second = (found.memory.parameters_bytes for found in estimates)
    assert second == pytest.approx(peaks[1].parameters_bytes, rel=0.02)
    assert first == pytest.approx(peaks[0].parameters_bytes, rel=0.02)
    gain = estimates[1].memory.peak_bytes - estimates[0].memory.peak_bytes
    assert gain == pytest.approx(peaks[1].peak_bytes - peaks[0].peak_bytes, rel=0.05)


@pytest.mark.parametrize("objective", ["dpo", "kto"])
def test_what_preference_tuning_takes(objective: str, tiny_gpt2: Path) -> None:
    """Its references are two numbers a pair, in the batch; comparing with the base loads it at the end."""
    checked = checked_model(tiny_gpt2, "lora", task__type="preference_tuning", task__objective=objective)
    batch = placeholder_batch(checked.recipe.task, LABELS, size=8, length=24)
    found = estimate_recipe(checked, CPU, batch=batch, advise=False).memory
    assert found.memory.peak_bytes == pytest.approx(measured(checked, batch), rel=0.03)
    compares = checked_model(
        tiny_gpt2, "lora", task__type="preference_tuning", task__objective=objective, task__compared_prompts=2
    )
    other = estimate_recipe(compares, CPU, batch=batch, advise=False).memory
    assert other.memory.peak_bytes == found.memory.peak_bytes
    assert other.phases["evaluate"] - found.phases["evaluate"] == pytest.approx(base_bytes(tiny_gpt2), rel=0.02)

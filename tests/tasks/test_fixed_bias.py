"""A loss that compares scores says nothing of their bias: it stays as it was, and goes wherever the head goes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification

import peftlab
from peftlab.core.reporter import Silent
from peftlab.inference.export.export import export_run
from tests.changed_weights import change_weights
from tests.conftest import sentences

pytestmark = pytest.mark.slow
PAIRS = [("good film", "GOOD FILM"), ("good film", "sad day")]
EARLIER = 0.75
"""A bias as an earlier version of peftlab would have trained it."""


def recipe(model: Path, folder: Path, method: str, **more: Any) -> peftlab.Recipe:
    rows = [{"query": text, "document": text.upper(), "no": text[::-1]} for text, _ in sentences(40)]
    source = folder / "rows.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return peftlab.Recipe.from_dict(
        {
            "name": method,
            "model": {"path": str(model)},
            "task": {"type": "reranking", "negatives": ["no"], "max_length": 48},
            "data": {"source": str(source), "validation_fraction": 0.2, "test_fraction": 0.2},
            "method": {"type": method},
            "training": {"max_steps": 4, "batch_size": 8},
            "measure": False,
            **more,
        }
    )


def weights(run: Path) -> Path:
    return next(path for path in run.glob("*/*.safetensors"))


def bias(path: Path) -> float:
    (found,) = (tensor for name, tensor in load_file(path).items() if name.endswith("classifier.bias"))
    return float(found)


def logits(run: Path) -> torch.Tensor:
    return torch.tensor([answer["prediction"] for answer in peftlab.load(run).predict(PAIRS)]).logit()


@pytest.mark.parametrize("method", ["lora", "linear_probe", "full"])
def test_it_stays_and_is_saved_and_that_of_an_earlier_run_is_kept(method: str, tiny_bert: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    record = peftlab.run_recipe(recipe(tiny_bert, tmp_path, method), output_dir=run).record
    assert record.status == "success", record.error
    assert {guard.status for guard in record.guards.values()} <= {"passed", "not_applicable"}
    assert bias(weights(run)) == 0.0
    before = logits(run)

    ends = "classifier.bias"
    change_weights(
        run, lambda saved: {n: each.fill_(EARLIER) if n.endswith(ends) else each for n, each in saved.items()}
    )
    assert logits(run) - before == pytest.approx(EARLIER, abs=1e-4)

    export_run(run, "merged", tmp_path / "merged", offline=True, reporter=Silent())
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "merged", local_files_only=True)
    assert plain.classifier.bias.item() == EARLIER

    after = tmp_path / "after"
    record = peftlab.run_recipe(
        recipe(tiny_bert, tmp_path, method, continues={"run": str(run)}), output_dir=after
    ).record
    assert record.status == "success", record.error
    assert bias(weights(after)) == EARLIER

"""Blocks that torch compiles compute what they compute as they are written."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from peftlab.acceleration.compiled import PART, compiled_blocks, find_blocks
from peftlab.recipe.schema import load_recipe
from peftlab.run import training_stage
from peftlab.run.run import run_recipe
from peftlab.testing.training_jobs import checked, job_of
from peftlab.training.job import TrainingJob
from peftlab.training.loop import optimizer_step

pytestmark = pytest.mark.slow

TASK = {"type": "text_classification", "max_length": 24}
TRACED = "aot_eager"
"""All of the compiler but for the kernels that it writes, which take half a minute."""


def losses_of(job: TrainingJob, steps: int = 2) -> torch.Tensor:
    return torch.stack([optimizer_step(job, step)[0].clone() for step in list(job.plan.steps())[:steps]])


def test_losses_are_those_of_blocks_as_they_are_written(tiny_bert: Path) -> None:
    plain, compiled = (job_of(checked(tiny_bert, TASK, [])) for _ in range(2))
    blocks = find_blocks(compiled.model)
    assert [type(block).__name__ for block in blocks] == ["BertLayer"] * 2
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    with compiled_blocks(compiled.model, backend=TRACED) as found:
        losses = losses_of(compiled)
        graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
        with torch.no_grad():
            compiled.model.eval()(input_ids=torch.tensor([[5, 6, 7]]), attention_mask=torch.ones(1, 3))
    assert found == {PART: 2}
    assert 1 <= graphs <= 4
    assert graphs == torch._dynamo.utils.counters["stats"]["unique_graphs"], "an evaluation compiles nothing"
    assert not any("forward" in vars(block) for block in blocks), "afterwards all is as before"
    torch.testing.assert_close(losses, losses_of(plain), rtol=1e-5, atol=1e-5)


def fail(_module: Any, _inputs: Any) -> Any:
    """A compiler that is not there."""
    raise OSError("there is no compiler here")


def test_blocks_that_cannot_be_compiled_compute_as_they_are_written(tiny_bert: Path) -> None:
    plain, failing = (job_of(checked(tiny_bert, TASK, [])) for _ in range(2))
    torch._dynamo.reset()
    with compiled_blocks(failing.model, backend=fail) as found:  # type: ignore[arg-type]
        losses = losses_of(failing)
    assert "there is no compiler here" in str(found[PART])
    assert torch.equal(losses, losses_of(plain))
    with compiled_blocks(torch.nn.Linear(2, 2)) as nothing:
        assert nothing == {PART: "no blocks are known in this model"}


def test_the_record_tells(tmp_path: Path, tiny_bert: Path, reviews: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_stage, "compiled_blocks", partial(compiled_blocks, backend=fail))
    path = tmp_path / "recipe.yaml"
    path.write_text(
        f"model: {{path: {tiny_bert}}}\ntask: {{type: text_classification, max_length: 32}}\n"
        f"data: {{source: {reviews}, validation_fraction: 0.2}}\nmethod: {{type: lora, rank: 2}}\nmeasure: false\n"
        "training: {max_steps: 2, batch_size: 4, compile: blocks}\n"
    )
    record = run_recipe(*load_recipe(path), output_dir=tmp_path / "run").record
    assert record.status == "success"
    assert record.acceleration is not None
    assert "there is no compiler here" in str(record.acceleration[PART])

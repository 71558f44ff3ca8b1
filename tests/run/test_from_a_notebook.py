"""A run where an event loop is running already, as in a cell of a notebook."""

from __future__ import annotations

import asyncio
import warnings
from pathlib import Path

import pytest

import peftlab
from peftlab.run.run import RunResult


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_run_and_its_answers_under_a_running_event_loop(
    method: str, tiny_bert: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    rows = [{"text": f"a {word} day {at}", "label": word} for word in ("good", "bad") for at in range(20)]
    recipe = peftlab.Recipe(
        model={"path": str(tiny_bert)},
        task={"type": "text_classification", "max_length": 16},
        data={"source": rows, "validation_fraction": 0.2},
        method={"type": method},
        training={"max_steps": 2, "batch_size": 8},
        measure=False,
        waive_guards=["answers_vary"],
    )

    async def cell() -> RunResult:
        return peftlab.run_recipe(recipe, output_dir=tmp_path / "run")

    async def next_cell(result: RunResult) -> list[dict[str, object]]:
        return peftlab.load(result.folder).predict(["a good day"])

    # One loop for all cells, as a kernel has; what libraries warn of would stand below each.
    with asyncio.Runner() as loop, warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", FutureWarning)
        result = loop.run(cell())
        answers = loop.run(next_cell(result))
    assert result.record.status == "success", result.record.error
    assert answers[0]["prediction"] in ("good", "bad")
    assert [str(each.message) for each in told if each.category is FutureWarning] == []
    assert "Writing model shards" not in capfd.readouterr().err, "nor the bars of transformers"

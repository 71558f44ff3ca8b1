"""Recorded passes of language models: rows of a few lengths, and of few numbers of labels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from peftlab.tasks.language.decoder import with_more_labels
from peftlab.tasks.language.vocabulary_head import LABEL_WEIGHTS
from peftlab.testing.training_jobs import checked, job_of
from peftlab.training.gradients import make_batches
from peftlab.training.graphs import build_graphs
from tests.training.recorded import TapeRecorder, assert_equal, losses_of, with_graphs

pytestmark = pytest.mark.slow

TASK = {"type": "causal_lm", "max_length": 24}
PROMPTED = {"type": "instruction_tuning", "prompt": "text", "response": "label", "max_length": 24}


def of_prompts(count: int = 8) -> list[dict[str, Any]]:
    """Examples whose last tokens alone are learned."""
    rows = [[5 + (7 * row + place) % 30 for place in range(6 + row % 5)] for row in range(count)]
    return [{"input_ids": ids, "labels": [*[-100] * (len(ids) - 3), *ids[-2:], -100]} for ids in rows]


@pytest.mark.parametrize("method", [{"type": "lora", "rank": 4}, {"type": "prefix_tuning"}, {"type": "full"}], ids=str)
def test_replayed_steps_are_the_plain_ones_bit_for_bit(tiny_gpt2: Path, method: dict[str, Any]) -> None:
    ready, recorder = checked(tiny_gpt2, TASK, [], dropout=0.1, method=method), TapeRecorder()
    plain, replayed = with_graphs(job_of(ready), TapeRecorder()), with_graphs(job_of(ready), recorder)
    assert plain.graphs is not None
    assert replayed.graphs is not None
    plain.graphs.problem = "computed plainly"
    assert_equal(losses_of(replayed), losses_of(plain))
    assert replayed.graphs.summary() == recorder.recorded
    assert replayed.graphs.replays >= 8, "of twelve batches all but the first of each shape"


@pytest.mark.parametrize("task", [TASK, PROMPTED], ids=str)
@pytest.mark.parametrize("acceleration", ["auto", "off"])
@pytest.mark.parametrize("smoothing", [None, 0.1])
def test_longer_rows_and_more_labels_change_nothing(
    tiny_gpt2: Path, task: dict[str, Any], acceleration: str, smoothing: float | None
) -> None:
    regularizers = [{"type": "label_smoothing", "epsilon": smoothing}] if smoothing else []
    ready = checked(
        tiny_gpt2, task, regularizers, model={"path": str(tiny_gpt2), "acceleration": acceleration, "dropout": 0.0}
    )
    examples = of_prompts() if task is PROMPTED else None
    plain, longer = job_of(ready, examples=examples), with_graphs(job_of(ready, examples=examples), TapeRecorder())
    pieces = [[0, 1, 2, 3], [4, 5, 6]]
    for batch, own in zip(make_batches(longer, pieces), make_batches(plain, pieces), strict=True):
        assert len(batch["label_rows"]) > len(own["label_rows"])
        assert longer.task.loss_terms(batch) == plain.task.loss_terms(own)
    wanted, found = losses_of(plain, 3), losses_of(longer, 3)
    torch.testing.assert_close(torch.stack(found[0]), torch.stack(wanted[0]), rtol=1e-5, atol=1e-6)
    for name, value in wanted[1].items():
        torch.testing.assert_close(found[1][name], value, rtol=1e-3, atol=1e-5)


def test_labels_are_as_many_as_tokens_or_a_half_or_a_quarter() -> None:
    for count, places in ((1, 6), (6, 6), (7, 12), (12, 12), (13, 24), (24, 24)):
        batch = {
            "input_ids": torch.zeros(2, 12),
            "label_rows": torch.arange(count) // 12,
            "label_columns": torch.arange(count) % 12,
        }
        found = with_more_labels(batch)
        assert len(found["label_rows"]) == len(found["label_columns"]) == len(found[LABEL_WEIGHTS]) == places
        assert found[LABEL_WEIGHTS].tolist() == [1] * count + [0] * (places - count)


def test_packed_rows_are_computed_plainly(tiny_gpt2: Path) -> None:
    """Where a row's texts begin is told on the host."""
    examples = [{"input_ids": [5, 6, 7, 8], "labels": [6, -100, 8, -100], "position_ids": [0, 1, 0, 1]}] * 8
    job = job_of(checked(tiny_gpt2, TASK, [], training__cuda_graphs="on"))
    job = replace(job, split=replace(job.split, examples=examples))
    assert build_graphs(job, TapeRecorder()) == "texts have positions of their own"

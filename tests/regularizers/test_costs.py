"""What is said of the cost of a regulariser's step, against the passes that are really computed."""

from __future__ import annotations

from pathlib import Path

import pytest

from peftlab.core.regularizer import REGULARIZERS
from peftlab.preparation.rehearsal import rehearse_flops
from tests.regularizers.regularized_jobs import TASKS, checked, job_of

TASK = TASKS["text_classification"][1]


@pytest.mark.parametrize("method", ["lora", "full"])
@pytest.mark.parametrize(
    "settings",
    [{"type": "pgd", "steps": 2}, {"type": "freelb", "steps": 2}, {"type": "smart"}, {"type": "smart", "proximity": 0}],
)
def test_passes_are_those_that_are_computed(settings: dict, method: str, tiny_bert: Path) -> None:
    flops = []
    for regularizers in ([], [settings]):
        job = job_of(checked(tiny_bert, TASK, regularizers, method={"type": method}))
        flops.append(rehearse_flops(job).of([12] * 8, terms=8))
    regularizer = REGULARIZERS[settings["type"]].model_validate(settings)
    said = regularizer.passes_of(trains_base=method == "full")
    assert said == pytest.approx(flops[1] / flops[0], rel=0.06)  # with so small a base, adapter and head count too

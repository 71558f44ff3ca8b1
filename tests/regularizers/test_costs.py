"""What is said of the cost of a regulariser's step, against the passes that are really computed."""

from __future__ import annotations

from pathlib import Path

import pytest

from peftlab.core.regularizer import REGULARIZERS
from peftlab.preparation.rehearsal import rehearse_flops
from peftlab.testing.training_jobs import TASKS, checked, job_of

pytestmark = pytest.mark.slow

TASK = TASKS["text_classification"][1]
EXAMPLES = [{"input_ids": [7] * length, "label": at % 2} for at, length in enumerate((6, 9, 12, 6, 9, 12, 6))]


@pytest.mark.parametrize("method", ["lora", "full"])
def test_passes_are_those_that_are_computed(method: str, tiny_bert: Path) -> None:
    def flops(regularizers: list[dict]) -> float:
        ready = checked(tiny_bert, TASK, regularizers, method={"type": method})
        return rehearse_flops(job_of(ready, examples=EXAMPLES)).of([12] * 8, terms=8)

    plain = flops([])
    for settings in ({"type": "pgd", "steps": 2}, {"type": "smart"}):
        said = REGULARIZERS[settings["type"]].model_validate(settings).passes_of(trains_base=method == "full")
        assert said == pytest.approx(flops([settings]) / plain, rel=0.06)  # with so small a base the adapter counts too

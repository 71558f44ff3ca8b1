"""Every method takes every regulariser, or refuses it in words before a step is taken."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from peftlab.core.errors import UnsupportedError
from peftlab.core.regularizer import REGULARIZERS
from peftlab.training.loop import optimizer_step
from peftlab.training.steps import Step
from tests.regularizers.regularized_jobs import TASKS, checked, job_of
from tests.small_methods import DISTINCT, method_section

ONLY_LORA = {"lora_plus"}
ONLY_MATRICES = {"spectral"}
NOT_WHERE_RANKS_ARE_PRUNED = {"ema", "swa", "smart", "mixout", "greedy_soup"}
NOT_OUTSIDE_OF_LAYERS = {"layer_wise_decay"}
WITH_AN_EARLIER_RUN = {"ewc"}
REFUSED = {
    "adalora": ONLY_LORA | ONLY_MATRICES | NOT_WHERE_RANKS_ARE_PRUNED,
    "lora": set(),
    "o_lora": set(),
    "eva": set(),
    "corda": set(),
    "lora_ga": set(),
    "lora_fa": ONLY_LORA,  # no A trains that B could be faster than
    "full": ONLY_LORA,
    **dict.fromkeys(
        ("linear_probe", "p_tuning", "prefix_tuning", "prompt_tuning"),
        ONLY_LORA | ONLY_MATRICES | NOT_OUTSIDE_OF_LAYERS,
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("method", DISTINCT)
def test_a_step_is_taken_or_refused(method: str, tiny_bert: Path) -> None:
    refused = set()
    for name in REGULARIZERS:
        try:
            ready = checked(
                tiny_bert, TASKS["text_classification"][1], [{"type": name}], dropout=0.1, method=method_section(method)
            )
            job = job_of(ready, rate=1e-3)
        except UnsupportedError:
            refused.add(name)
            continue
        for number in (1, 2):
            loss, norm, _ = optimizer_step(job, Step(number, 0, [[0, 1, 2], [3, 4]], ends_epoch=False))
        assert torch.isfinite(loss), name
        assert norm is not None
        assert torch.isfinite(norm), name
        for own, parameter in job.model.named_parameters():
            assert torch.isfinite(parameter).all(), (name, own)
            assert parameter.requires_grad or parameter.grad is None, (name, own)
    assert refused == REFUSED.get(method, ONLY_LORA | ONLY_MATRICES) | WITH_AN_EARLIER_RUN

"""Any two regularisers count both, or are refused: none does away with the other without a word."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch

from peftlab.core.errors import ConfigError
from peftlab.core.regularizer import REGULARIZERS
from peftlab.testing.regularizer_contract import METHODS
from peftlab.testing.training_jobs import TASKS, checked, job_of
from peftlab.training.loop import optimizer_step
from peftlab.training.optimizers import set_learning_rate
from peftlab.training.steps import Step

pytestmark = pytest.mark.slow

SETTINGS: dict[str, dict[str, Any]] = {
    "debiasing": {"warmup": 0.0},
    "fixmatch": {"confidence": 0.0},
    "spectral": {"strength": 1.0},
    "swa": {"start": 0.0},
}
WITHOUT_EFFECT_HERE = {"ewc", "greedy_soup", "router_balance"}
"""They need an earlier run, evaluations, and experts."""
NAMES = sorted(set(REGULARIZERS) - WITHOUT_EFFECT_HERE)
REFUSED = {
    *itertools.combinations(sorted(("debiasing", "fixmatch", "mixup", "r_drop", "smart", "uda")), 2),
    *itertools.combinations(("fgm", "freelb", "pgd"), 2),
    *(tuple(sorted((one, other))) for one in ("fgm", "freelb", "pgd") for other in ("fixmatch", "smart", "uda")),
    ("ema", "swa"),
    ("fixmatch", "neftune"),  # its noise is measured by the labelled texts' padding
    ("neftune", "uda"),
    ("l2_sp", "mixout"),
}


def left_by(folder: Path, *names: str) -> dict[str, torch.Tensor]:
    """What training and evaluation have after two steps: in the first one nothing has moved yet that could be held."""
    regularizers = [{"type": name, **SETTINGS.get(name, {})} for name in names]
    method = dict(METHODS["text_classification"])
    job = job_of(checked(folder, TASKS["text_classification"][1], regularizers, dropout=0.1, method=method))
    torch.manual_seed(7)
    for number in (1, 2):
        set_learning_rate(job.optimizer, 1e-2)
        loss, norm, _ = optimizer_step(job, Step(number, 0, [[0, 1, 2, 3], [4, 5, 6]], ends_epoch=False))
    assert torch.isfinite(loss)
    assert norm is not None
    assert torch.isfinite(norm)
    found = {name: value.detach().clone() for name, value in job.model.named_parameters() if value.requires_grad}
    return found | {f"kept/{name}": value for name, value in job.hooks.weights_to_keep(job.model).items()}


def are_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


def test_both_count_or_they_are_refused(tiny_bert: Path) -> None:
    alone = {name: left_by(tiny_bert, name) for name in NAMES}
    refused = set()
    for pair in itertools.combinations(NAMES, 2):
        try:
            together = left_by(tiny_bert, *pair)
        except ConfigError as error:
            assert "contradict each other" in str(error)
            refused.add(pair)
            continue
        for name in pair:
            assert not are_same(together, alone[name]), f"beside `{name}` nothing is left of {pair}"
    assert refused == REFUSED


@pytest.mark.parametrize("outer", ["mixup", "mixout"])
@pytest.mark.parametrize("inner", ["fgm", "pgd", "freelb", "neftune"])
def test_what_is_drawn_for_a_batch_is_drawn_once_in_whichever_order(outer: str, inner: str, tiny_bert: Path) -> None:
    """Else the second pass of adversarial training would be of other mixtures than the first, which leads to it."""
    assert are_same(left_by(tiny_bert, outer, inner), left_by(tiny_bert, inner, outer))

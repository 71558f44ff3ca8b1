"""What small plugins give is looked at where it arrives: the plugin is named, and what it should give."""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random
from typing import Any

import numpy as np
import pytest
import torch

from peftlab.audit.run_audit import run_parts
from peftlab.core.audit import Audit, Figure, Findings
from peftlab.core.augmentation import Augmentation
from peftlab.core.errors import PluginError
from peftlab.core.metric import Metric
from peftlab.core.optimizer import OptimizerConfig
from peftlab.core.perturbation import Perturbation
from peftlab.core.schedule import Schedule
from peftlab.core.selection import Candidates, Strategy, choose
from peftlab.core.splits import Split
from peftlab.data.augmenting import changed_copies
from peftlab.testing.audited_rows import audited
from peftlab.training.optimizers import build_optimizer, learning_rate_schedule
from peftlab.training.training_config import TrainingConfig


def odd(base: type[Any], hook: str, given: Any, **facts: Any) -> Any:
    """A class that gives something."""
    names = {"__doc__": "Odd.", "__module__": __name__, "registered_name": "odd", hook: lambda *_: given, **facts}
    return type("Odd", (base,), names)


def score(given: Any) -> Any:
    metric = odd(Metric, "per_example", given, higher_is_better=True)
    return metric.score(["a", "b"], ["a", "a"])


def augment(given: Any) -> Any:
    rows = Split("train", range(2), {"text": ["a b", "c d"]})
    keys: Any = lambda split: [text.encode() for text in split.columns["text"]]  # noqa: E731
    return changed_copies(rows, [], {0: odd(Augmentation, "change", given)()}, ["text"], keys, seed=0)


def rate(given: Any) -> Any:
    config = TrainingConfig().model_copy(update={"schedule": odd(Schedule, "factor", given)(), "warmup_fraction": 0.0})
    return learning_rate_schedule(config, 1e-3, 10)(3)


def optimizer(given: Any) -> Any:
    config = TrainingConfig().model_copy(update={"optimizer": odd(OptimizerConfig, "build", given)()})
    return build_optimizer(torch.nn.Linear(2, 2), config, 1e-3)


def chosen(given: Any) -> Any:
    return choose(odd(Strategy, "select", given)(), Candidates(3), 2, seed=0)


def perturbed(given: Any) -> Any:
    return odd(Perturbation, "change", given, what="it is odd")().perturb("text", Random(0))


@pytest.mark.parametrize(
    ("ask", "given", "told"),
    [
        (score, [1.0, 0.0], r"per_example of the metric `odd` has given \[1.0, 0.0\] for 2 examples"),
        (score, np.ones(1), "for 2 examples\n  Give an array of one number an example"),
        (augment, None, "the augmentation `odd` has given None, and not a str"),
        (rate, None, "the schedule `odd` has given None, and not a number"),
        (rate, math.nan, "the schedule `odd` has given nan for step 3 of 10"),
        (rate, -0.5, "below, the model would climb"),
        (optimizer, None, "build of odd has given None, and not a Optimizer\n  Return the optimizer"),
        (chosen, None, "the strategy `odd` has given None, and not a Sequence"),
        (chosen, [0, 1], "the strategy `odd` has given 0, and not a Choice"),
        (perturbed, None, "the perturbation `odd` has given None, and not a str"),
    ],
)
def test_a_wrong_value_is_told(ask: Callable[[Any], Any], given: Any, told: str) -> None:
    with pytest.raises(PluginError, match=told):
        ask(given)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ([Figure("odd.x", 0.5, 3, "x")], "`odd` has given "),
        (Findings([Figure("odd.x", math.nan, 3, "x")]), "the figure odd.x is nan. Leave it out, and write a note"),
        (Findings([Figure("odd.x", 0.5, 3, "x", examples=[{"a": object()}])]), "the examples of odd.x"),
    ],
)
def test_a_part_without_findings_costs_no_other_part_its_work(given: Any, told: str) -> None:
    rows = audited(lambda _: [0.4, 0.6], ["a text"] * 20, ["good"] * 20)
    right = odd(Audit, "run", Findings([]), title="Right", registered_name="right")()
    found, skipped = run_parts(rows, [odd(Audit, "run", given, title="Odd")(), right])
    assert list(found) == ["right"]
    assert told in skipped["odd"]

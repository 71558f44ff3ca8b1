"""Mistakes in schedules, optimizers and parts of audits: the contract of each kind names them."""

from __future__ import annotations

import random
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from pydantic import Field

from peftlab.core.audit import AUDITS, Audit, Figure, Findings
from peftlab.core.optimizer import OPTIMIZERS, OptimizerConfig
from peftlab.core.schedule import SCHEDULES, Schedule
from peftlab.testing import AuditContract, OptimizerContract, ScheduleContract
from peftlab.testing.plugin_contract import PluginContract
from tests.testing.planted import NAME, Kinds, check_mistake, mistakes_of, try_all


class Halving(Schedule):
    """Halves the rate."""

    def factor(self, place: Any) -> float:
        return 0.5 ** int(place.progress * 4)


class DividesByNothing(Halving):
    """Runs of one step have none but the last."""

    def factor(self, place: Any) -> float:
        return 1 - (place.step - place.warmup) / (place.total - place.warmup - 1)


class CountsCalls(Halving):
    """Counts how often it is asked."""

    _calls: ClassVar[list[int]] = []

    def factor(self, place: Any) -> float:
        self._calls.append(1)
        return 1 / len(self._calls)


class Rises(Halving):
    """Goes beyond the peak."""

    def factor(self, place: Any) -> float:
        return 1 + place.progress


class BeginsWithNothing(Halving):
    """Its first step moves nothing."""

    def factor(self, place: Any) -> float:
        return place.progress


class Sign(torch.optim.Optimizer):
    """Moves by the sign of a mean gradient."""

    def __init__(self, groups: Any, rate: float) -> None:
        super().__init__(groups, {"lr": rate})

    def mean(self, parameter: Any) -> Any:
        return self.state[parameter].setdefault("mean", torch.zeros_like(parameter))

    def rate(self, group: Any) -> float:
        return group["lr"]

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            for each in group["params"]:
                if each.grad is not None:
                    mean = self.mean(each)
                    mean.lerp_(each.grad, 0.2)
                    each.sub_(mean.sign(), alpha=self.rate(group))


class StateElsewhere(Sign):
    """Keeps its means in an attribute."""

    def mean(self, parameter: Any) -> Any:
        self.means = getattr(self, "means", {})
        return self.means.setdefault(parameter, torch.zeros_like(parameter))


class OwnRate(Sign):
    """Keeps the rate that it was built with."""

    def rate(self, group: Any) -> float:
        return self.defaults["lr"]


class FlatGroups(Sign):
    """Makes one group of all."""

    def __init__(self, groups: Any, rate: float) -> None:
        super().__init__([each for group in groups for each in group["params"]], rate)


class KeepsObjects(Sign):
    """Keeps what no checkpoint can hold."""

    def mean(self, parameter: Any) -> Any:
        self.state[parameter]["device"] = parameter.device
        return super().mean(parameter)


class Climbs(Sign):
    """Forgets the minus."""

    def rate(self, group: Any) -> float:
        return -group["lr"]


def optimizer(cls: type[Sign]) -> type[OptimizerConfig]:
    class Config(OptimizerConfig):
        """Moves by signs."""

        beta: float = Field(0.8, description="Of the mean.")

        def build(self, groups: Any, learning_rate: float, model: Any) -> torch.optim.Optimizer:
            return cls(groups, learning_rate)

    Config.__name__ = cls.__name__
    return Config


class Shouting(Audit):
    """Errors in texts of which it looks at a few."""

    title = "Shouting"

    def run(self, audited: Any) -> Findings:
        return Findings([Figure(f"{NAME}.error", float(audited.errors.mean() > 0), len(audited), "It errs.")])


class RaisesOnNumbers(Shouting):
    """Thinks that each row has a class."""

    def run(self, audited: Any) -> Findings:
        right, said = audited.classes
        return Findings([Figure(f"{NAME}.error", float((right != said).mean()), len(audited), "It errs.")])


class FigureOfNothing(Shouting):
    """Has the mean of no rows."""

    def run(self, audited: Any) -> Findings:
        return Findings([Figure(f"{NAME}.error", float("nan"), 0, "It errs.")])


class NameWithoutPart(Shouting):
    """Its figure does not say whose it is."""

    def run(self, audited: Any) -> Findings:
        return Findings([Figure("error", 0.5, 3, "It errs.")])


class SharesAreNumbers(Shouting):
    """A distance that is called a share."""

    def run(self, audited: Any) -> Findings:
        return Findings([Figure(f"{NAME}.length", 31.5, 3, "They are long.")])


class SamplesAnew(Shouting):
    """Draws rows from the program's generator."""

    def run(self, audited: Any) -> Findings:
        return Findings([Figure(f"{NAME}.error", random.random(), 3, "It errs.")])


class ExamplesOfArrays(Shouting):
    """Its examples hold numpy's numbers."""

    def run(self, audited: Any) -> Findings:
        return Findings([Figure(f"{NAME}.error", 0.5, 3, "It errs.", examples=[{"at": np.int64(3)}])])


KINDS: Kinds = {
    ScheduleContract: (
        SCHEDULES,
        Halving,
        {
            DividesByNothing: "planted raises ZeroDivisionError at step 0 of 1, 0 of them warm-up",
            CountsCalls: "asked twice, it gives ",
            Rises: "the rate would be above its peak",
            BeginsWithNothing: "the first after the warm-up: a step that moves nothing",
        },
    ),
    OptimizerContract: (
        OPTIMIZERS,
        optimizer(Sign),
        {
            optimizer(StateElsewhere): "goes on otherwise than one that is not, in ",
            optimizer(OwnRate): "in steps at the rate 0\n",
            optimizer(FlatGroups): "loses the `rate_factor` of its groups",
            optimizer(KeepsObjects): "the optimizer keeps a device for each parameter",
            optimizer(Climbs): "do not lower the loss: ",
        },
    ),
    AuditContract: (
        AUDITS,
        Shouting,
        {
            RaisesOnNumbers: "planted on numbers: TypeError: ",
            FigureOfNothing: "planted.error is nan",
            NameWithoutPart: "has a figure `error`\n  Its name begins with `planted.`",
            SharesAreNumbers: "planted.length is 31.5, and a share is between 0 and 1",
            SamplesAnew: "the generator of the whole program (random)\n",
            ExamplesOfArrays: "has examples that JSON cannot hold",
        },
    ),
}


@pytest.mark.parametrize("contract", KINDS, ids=lambda contract: contract.__name__)
def test_a_right_one_passes(contract: type[PluginContract], monkeypatch: pytest.MonkeyPatch) -> None:
    registry, right, _ = KINDS[contract]
    try_all(contract, registry, right, monkeypatch)


@pytest.mark.parametrize(("contract", "mistake"), mistakes_of(KINDS))
def test_each_mistake_is_named(
    contract: type[PluginContract], mistake: type[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    check_mistake(KINDS, contract, mistake, monkeypatch)

"""Mistakes that authors of regularisers make: the contract names each."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from pydantic import Field

from peftlab.core.regularizer import REGULARIZERS, Regularizer
from peftlab.testing import BrokenContractError, RegularizerContract
from peftlab.testing.regularizer_contract import Use

pytestmark = pytest.mark.slow

SECTION = {"type": "shrink"}
USED = Use(SECTION, "text_classification")


class Shrink(Regularizer):
    """What trains stays small."""

    strength: float = Field(0.1, description="Of the penalty.")

    def penalty(self, model: Any) -> Any:
        return self.strength * sum(each.square().sum() for each in model.parameters() if each.requires_grad)


class Misspelt(Shrink):
    """Its hook is none, so that nothing calls it."""

    def penalty(self, model: Any) -> Any:
        return None

    def penality(self, model: Any) -> Any:
        return Shrink.penalty(self, model)


class Remembers(Shrink):
    """Grows with each step, which no checkpoint holds."""

    _steps: int = 0

    def after_step(self, model: Any, step: int) -> None:
        self._steps += 1

    def penalty(self, model: Any) -> Any:
        return super().penalty(model) * (1 + self._steps)


class LeavesNoise(Shrink):
    """Changes weights around the pass, and does not put them back."""

    def around_backward(self, backward: Any, model: Any, batch: Any) -> Any:
        with torch.no_grad():
            for each in model.parameters():
                each += 0.01
        return backward()


class LeavesNoiseWhereItFails(Shrink):
    """Puts weights back only where the pass ends well."""

    def around_backward(self, backward: Any, model: Any, batch: Any) -> Any:
        with torch.no_grad():
            before = {name: each.clone() for name, each in model.named_parameters()}
            for each in model.parameters():
                each += 0.01
        loss = backward()
        with torch.no_grad():
            for name, each in model.named_parameters():
                each.copy_(before[name])
        return loss


class AsksForANumber(Shrink):
    """Looks at a value in each step."""

    def after_step(self, model: Any, step: int) -> None:
        next(model.parameters()).sum().item()


MISTAKES = {
    Misspelt: "six steps with it leave the weights that six steps without it leave\n  Its keys may be too weak",
    Remembers: "a run that is interrupted after 3 steps goes on otherwise than one that is not, in ",
    LeavesNoise: "frozen tensors changed: ",
    LeavesNoiseWhereItFails: "ran out of memory is another one than that of smaller batches, in ",
    AsksForANumber: "each step waits for the card, by item() at test_broken_regularizers.py:",
}


@pytest.fixture(autouse=True)
def _registry(monkeypatch: pytest.MonkeyPatch) -> None:
    REGULARIZERS.names()
    monkeypatch.setattr(REGULARIZERS, "_classes", dict(REGULARIZERS._classes))


class Shrinks(RegularizerContract):
    plugin: ClassVar = SECTION
    announced = False


def try_all(regularizer: type[Regularizer], folder: Path, factory: pytest.TempPathFactory) -> None:
    """The tests of a class on a classification task."""
    REGULARIZERS.register("shrink")(regularizer)
    tests = Shrinks()
    tests.test_it_is_described(SECTION)
    tests.test_it_has_an_effect_and_a_resumed_run_is_the_same(USED, folder, factory)
    tests.test_a_step_that_ran_out_of_memory_is_the_step_of_smaller_batches(USED, factory)
    tests.test_no_step_waits_for_the_card(USED, factory)


def test_a_right_one_passes(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    try_all(Shrink, tmp_path, tmp_path_factory)


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda cls: cls.__name__)
def test_each_mistake_is_named(
    mistake: type[Regularizer], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with pytest.raises(BrokenContractError) as caught:
        try_all(mistake, tmp_path, tmp_path_factory)
    assert MISTAKES[mistake] in str(caught.value)

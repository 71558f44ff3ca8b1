"""Mistakes that authors of methods make: the contract names each, where it is and what to do."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from pydantic import Field, field_validator
from torch import nn

from peftlab.core.method import METHODS, Method
from peftlab.testing import BrokenContractError, MethodContract
from peftlab.testing.method_on_models import Case
from peftlab.testing.tiny_models import KIND_OF

pytestmark = pytest.mark.slow

SECTION = {"type": "output_scale"}
CASE = Case(SECTION, KIND_OF["bert"])


class Scaled(nn.Module):
    """A layer whose outputs are multiplied by what trains."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.layer = layer
        self.scale = nn.Parameter(torch.ones(layer.out_features))

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        return self.layer(states) * self.scale


class OutputScale(Method):
    """Multiplies the outputs of queries and values."""

    default_learning_rate = 1e-2
    starts_as_base = True

    names: list[str] = Field(["query", "value"], description="Which layers.")

    def apply(self, model: Any, context: Any) -> Any:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name.startswith(context.head_modules))
        for name, module in list(model.named_modules()):
            if name.rpartition(".")[2] in self.names:
                model.set_submodule(name, Scaled(module))
        return model


@pytest.fixture
def contract(monkeypatch: pytest.MonkeyPatch) -> Callable[[type[Method]], MethodContract]:
    """The tests of a class, which is registered as long as the test lasts."""
    METHODS.names()
    monkeypatch.setattr(METHODS, "_classes", dict(METHODS._classes))

    class TestOutputScale(MethodContract):
        plugin = SECTION
        models = ("bert",)
        announced = False

    def tests_of(cls: type[Method]) -> MethodContract:
        METHODS._classes.pop("output_scale", None)
        METHODS.register("output_scale")(cls)
        return TestOutputScale()

    return tests_of


def on_models(tests: MethodContract, folder: Path) -> None:
    """All tests of a method on one model."""
    tests.test_it_is_described(SECTION)
    tests.test_its_keys_are_written_and_read_back(SECTION)
    tests.test_it_refuses_in_words_what_it_cannot_take(SECTION)
    tests.test_only_what_is_meant_to_train_does(CASE)
    tests.test_it_starts_as_the_base_where_it_says_so(CASE)
    tests.test_it_learns_and_leaves_the_base_alone(CASE)
    tests.test_what_is_saved_says_the_same_and_merged_too(CASE, folder)
    tests.test_a_resumed_run_goes_on_alike(CASE)
    tests.test_no_step_waits_for_the_card(SECTION)


def test_a_right_one_passes(contract: Callable[[type[Method]], MethodContract], tmp_path: Path) -> None:
    on_models(contract(OutputScale), tmp_path)


class GivesNothing(OutputScale):
    """Forgets `return model`."""

    def apply(self, model: Any, context: Any) -> Any:
        super().apply(model, context)


class FreezesTheHead(OutputScale):
    """Takes the head for a part of the base."""

    def apply(self, model: Any, context: Any) -> Any:
        model = super().apply(model, context)
        model.get_submodule(context.head_modules[0]).requires_grad_(False)
        return model


class TrainsTheBase(OutputScale):
    """Lets norms train that `trains` does not name."""

    def apply(self, model: Any, context: Any) -> Any:
        model = super().apply(model, context)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(parameter.requires_grad or "LayerNorm" in name)
        return model


class Detached(OutputScale):
    """The parameter takes no part in the backward pass."""

    def apply(self, model: Any, context: Any) -> Any:
        model = super().apply(model, context)
        for module in model.modules():
            if isinstance(module, Scaled):
                module.forward = lambda states, own=module: own.layer(states) * own.scale.detach()
        return model


class StartsElsewhere(OutputScale):
    """Says `starts_as_base`, and does not."""

    def apply(self, model: Any, context: Any) -> Any:
        model = super().apply(model, context)
        for module in model.modules():
            if isinstance(module, Scaled):
                nn.init.constant_(module.scale, 1.5)
        return model


class Remembers(OutputScale):
    """Counts steps in an attribute that no checkpoint holds."""

    _seen: int = 0

    def after_step(self, model: Any, step: int) -> None:
        self._seen += 1
        if self._seen == 12:
            for module in model.modules():
                if isinstance(module, Scaled):
                    module.scale.data *= 0.5


class SaysItMerges(OutputScale):
    """Adds modules, and says that they can be folded into the base."""

    mergeable = True


class DrawsAnew(OutputScale):
    """Draws a mask that no file holds."""

    starts_as_base = False

    def apply(self, model: Any, context: Any) -> Any:
        model = super().apply(model, context)
        for module in model.modules():
            if isinstance(module, Scaled):
                module.register_buffer("mask", torch.rand_like(module.scale) + 0.5)
                module.forward = lambda states, own=module: own.layer(states) * own.scale * own.mask
        return model


class ChangesTheBase(OutputScale):
    """Writes into a frozen weight after each step."""

    def after_step(self, model: Any, step: int) -> None:
        model.bert.embeddings.word_embeddings.weight.data *= 0.999


class AsksForANumber(OutputScale):
    """Looks at a value in each step."""

    def after_step(self, model: Any, step: int) -> None:
        scale = next(module.scale for module in model.modules() if isinstance(module, Scaled))
        if float(scale.detach().norm()) > 1e6:
            raise ValueError("too large")


class PenaltyIsAFloat(OutputScale):
    """Gives a number in the place of a tensor."""

    def penalty(self, model: Any) -> Any:
        return 0.1


class Undescribed(OutputScale):
    """Has a key that nobody explains."""

    strength: float = 1.0


class ReadsOtherwise(OutputScale):
    """A validator adds to what it is given each time."""

    @field_validator("names")
    @classmethod
    def _add(cls, names: list[str]) -> list[str]:
        return [*names, "key"]


class LearnsTooSlowly(OutputScale):
    """Its own rate moves nothing."""

    default_learning_rate = 1e-7


class StateIsANumber(OutputScale):
    """A checkpoint holds tensors alone."""

    def state(self, model: Any) -> Any:
        return {"count": 3}


MISTAKES = {
    GivesNothing: "output_scale on bert: `apply` gives NoneType, and no model\n  It returns the model to train",
    FreezesTheHead: "output_scale-bert: the head does not train: classifier\n  `apply` sets requires_grad",
    TrainsTheBase: "parameters of the base train that should not: bert.embeddings.LayerNorm.weight",
    Detached: "got no gradient within 16 steps: bert.encoder.layer.0.attention.self.query.scale",
    StartsElsewhere: "starts_as_base = True, and at first its logits are ",
    Remembers: "a run that is interrupted after 10 steps goes on otherwise than one that is not\n  What the method remembers",
    SaysItMerges: "merged, it holds other tensors than a plain model: bert.encoder.layer.0.attention.self.query.",
    DrawsAnew: "saved and loaded again, its logits are up to ",
    ChangesTheBase: "frozen tensors changed: bert.embeddings.word_embeddings.weight\n  Hooks may change what trains",
    AsksForANumber: "each step waits for the card, by __float__() at test_broken_methods.py:",
    PenaltyIsAFloat: "`penalty` of output_scale gives float 0.1\n  It is None, or a tensor",
    Undescribed: "the key `strength` of `output_scale` is not described\n  Write Field(",
    ReadsOtherwise: "`output_scale` is read back with another names than was written",
    LearnsTooSlowly: "output_scale-bert: 16 steps do not lower the loss: ",
    StateIsANumber: "`state` of output_scale gives int for count\n  A checkpoint holds tensors",
}


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda cls: cls.__name__)
def test_each_mistake_is_named(
    mistake: type[Method], contract: Callable[[type[Method]], MethodContract], tmp_path: Path
) -> None:
    with pytest.raises(BrokenContractError) as caught:
        on_models(contract(mistake), tmp_path)
    assert MISTAKES[mistake] in str(caught.value)


def test_what_no_package_announces_is_told(contract: Callable[[type[Method]], MethodContract]) -> None:
    tests = contract(OutputScale)
    tests.test_it_is_announced(SECTION)  # it says that it is of no package
    tests.__class__.announced = True
    with pytest.raises(BrokenContractError, match="no installed package announces `output_scale`") as caught:
        tests.test_it_is_announced(SECTION)
    assert '[project.entry-points."peftlab.methods"]' in str(caught.value)


def test_what_is_misspelt_or_set_wrongly_is_told(contract: Callable[[type[Method]], MethodContract]) -> None:
    tests = contract(OutputScale)
    for section, told in (
        ({"type": "output_scal"}, "unknown method `output_scal`\n  Did you mean `output_scale`?"),
        ({"type": "output_scale", "nmes": []}, "nmes: "),
        ({}, "does not say which method they are of"),
    ):
        with pytest.raises(BrokenContractError) as caught:
            tests.build(section)
        assert told in str(caught.value)


def test_a_heavy_import_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "heavy_method.py").write_text(
        "import sklearn\n\nfrom peftlab import METHODS, Method\n\n\n@METHODS.register('heavy')\nclass Heavy(Method):\n"
        "    '''Heavy.'''\n\n    def apply(self, model, context):\n        return model\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{':'.join(sys.path)}")
    METHODS.names()
    monkeypatch.setattr(METHODS, "_classes", dict(METHODS._classes))
    __import__("heavy_method")

    class TestHeavy(MethodContract):
        plugin: ClassVar = {"type": "heavy"}

    with pytest.raises(BrokenContractError, match="to import heavy_method imports sklearn, which takes seconds"):
        TestHeavy().test_it_is_cheap_to_import()


def test_kinds_that_are_refused_must_be_named_and_no_others(
    contract: Callable[[type[Method]], MethodContract],
) -> None:
    tests = contract(OutputScale)
    tests.__class__.models, tests.__class__.refuses = ("bert", "gpt2"), ("gpt2",)
    with pytest.raises(BrokenContractError, match="`output_scale` is said to refuse gpt2, and takes it"):
        tests.test_it_refuses_in_words_what_it_cannot_take(SECTION)
    refusing = contract(type("Refusing", (METHODS["bitfit"],), {"__doc__": "For models with biases."}))
    with pytest.raises(BrokenContractError, match=r"the model is refused.*\n.*refuses = "):
        refusing.test_only_what_is_meant_to_train_does(Case(SECTION, KIND_OF["llama"]))

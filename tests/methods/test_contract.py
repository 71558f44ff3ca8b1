"""Every method of peftlab keeps the contract that plugins keep. A new one is covered without a new test."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import pytest

from peftlab.core.method import METHODS
from peftlab.testing.method_in_runs import MethodInRuns
from peftlab.testing.method_on_models import MethodOnModels
from peftlab.testing.plugin_contract import Section
from peftlab.testing.tiny_models import KIND_OF
from tests.small_methods import DISTINCT, PEFT_ADAPTERS, method_section

ENOUGH = ("bert", "gpt2-lm")
"""Kinds for methods that share a class, and for a quick look at the others: plain and transposed matrices."""
OTHERS = tuple(name for name in KIND_OF if name not in ENOUGH)
NOT_TRANSPOSED = ("c3a", "hra", "loha", "lokr", "miss", "oft", "road", "shira")
WITHOUT_HEAD = ("bert-lm", "gpt2-lm", "llama-lm", "t5", "bart")
REFUSED: dict[str, Collection[str]] = {
    "bitfit": ("llama", "llama-lm", "t5"),
    "linear_probe": WITHOUT_HEAD,
    **dict.fromkeys(("prefix_tuning", "prompt_tuning", "p_tuning"), ("distilbert",)),
    **dict.fromkeys(NOT_TRANSPOSED, ("gpt2-lm",)),
}


class TestMethods(MethodOnModels):
    def sections(self) -> Sequence[Section]:
        return [method_section(name) for name in METHODS]

    def models_of(self, section: Section) -> Sequence[str]:
        return ENOUGH

    def refused_by(self, section: Section) -> Collection[str]:
        return [name for name in REFUSED.get(section["type"], ()) if name in self.models_of(section)]

    def half_of(self, section: Section) -> int:
        return 10 if section["type"] == "adalora" else 4  # it prunes within twenty steps


@pytest.mark.slow
class TestMethodsOnOtherModels(TestMethods):
    def sections(self) -> Sequence[Section]:
        return [method_section(name) for name in METHODS if name not in PEFT_ADAPTERS]

    def models_of(self, section: Section) -> Sequence[str]:
        return OTHERS


ONLY_LORA = {"lora_plus"}
ONLY_MATRICES = {"spectral"}
NOT_WHERE_RANKS_ARE_PRUNED = {"ema", "swa", "smart", "mixout", "greedy_soup"}
NOT_OUTSIDE_OF_LAYERS = {"layer_wise_decay"}
WITH_AN_EARLIER_RUN = {"ewc"}
WITH_EXPERTS = {"router_balance"}
REFUSED_REGULARIZERS = {
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
class TestMethodsInRuns(MethodInRuns):
    def sections(self) -> Sequence[Section]:
        return [method_section(name) for name in DISTINCT]

    def estimated_on(self, section: Section) -> Sequence[str]:
        # Turned matrices and a cache are other ones in a decoder; what else there is, is the same.
        return self.bases if section["type"] in ("full", "lora", "prefix_tuning") else self.bases[:1]

    def refused_regularizers(self, section: Section) -> Collection[str] | None:
        return REFUSED_REGULARIZERS.get(section["type"], ONLY_LORA | ONLY_MATRICES) | WITH_AN_EARLIER_RUN | WITH_EXPERTS


@pytest.mark.parametrize("name", METHODS.names())
def test_each_comes_with_its_paper(name: str) -> None:
    assert METHODS[name].paper.startswith("https://")

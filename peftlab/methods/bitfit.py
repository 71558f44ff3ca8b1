"""BitFit: only the bias terms and the head train (Ben Zaken et al. 2021, https://arxiv.org/abs/2106.10199)."""

from __future__ import annotations

from typing import Any, ClassVar

from peftlab.core.errors import UnsupportedError
from peftlab.core.method import METHODS, Method, MethodContext
from peftlab.core.model_facts import ModelFacts
from peftlab.methods._freezing import freeze_base

OUTSIDE = frozenset({"q_bias", "v_bias"})
"""Biases of attention that stand outside of a layer."""


@METHODS.register("bitfit")
class BitFit(Method):
    """BitFit: only the bias terms and the head train."""

    works_sharded: ClassVar[bool] = True
    paper: ClassVar[str] = "https://arxiv.org/abs/2106.10199"
    mergeable: ClassVar[bool] = True
    starts_as_base: ClassVar[bool] = True
    default_learning_rate: ClassVar[float] = 4e-3

    def trains(self, name: str) -> bool:
        """Biases, those of the norms included, and those that stand outside of a layer, as in DeBERTa's attention."""
        return name.rpartition(".")[2] in {"bias", *OUTSIDE}

    def may_be_missing(self, name: str) -> bool:
        """Those outside of a layer, which were left out once."""
        return name.rpartition(".")[2] in OUTSIDE

    def check(self, facts: ModelFacts) -> None:
        """Refuse a model without biases, such as Llama."""
        if facts.weights is not None and not any(self.trains(name) for name in facts.weights):
            raise UnsupportedError(_no_biases(facts.path))

    def check_quantization(self, quantization: str) -> None:
        """Refuse: the biases sit inside the quantised layers.

        bitsandbytes sums a bias's gradient over the batch alone, which is wrong for batch × length × hidden.
        """
        raise UnsupportedError(
            f"BitFit trains the biases of the base's layers, which have no usable gradient in {quantization} layers",
            hint="Set model.quantization to null, or choose a method that freezes the layers, such as lora.",
        )

    def check_offload(self) -> None:
        """Refuse: a layer is offloaded with its bias, or not at all."""
        raise UnsupportedError(
            "BitFit trains the biases of the base's layers, and what trains must stay on the device",
            hint="Set model.offload to null, or choose a method that freezes the layers, such as lora.",
        )

    def apply(self, model: Any, context: MethodContext) -> Any:
        """Freeze all but biases and head.

        Raises:
            UnsupportedError: The model has no biases.
        """
        if not any(self.trains(name) for name, _ in getattr(model, "base_model", model).named_parameters()):
            raise UnsupportedError(_no_biases(type(model).__name__))
        freeze_base(model, context, keep=self.trains)
        return model


def _no_biases(model: str) -> str:
    return f"{model} has no bias terms, which are what BitFit trains"

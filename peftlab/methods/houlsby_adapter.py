"""Houlsby adapters: a bottleneck behind attention and behind feed-forward (2019, https://arxiv.org/abs/1902.00751)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field, PositiveInt

from peftlab.core.method import METHODS, Method, MethodContext
from peftlab.core.model_facts import ModelFacts
from peftlab.methods._bottleneck import (
    ATTENTION_OUTPUTS,
    FEEDFORWARD_OUTPUTS,
    Activation,
    ModuleNames,
    check_placement,
    insert_adapters,
    place,
)
from peftlab.methods._freezing import freeze_base
from peftlab.methods._targets import linear_modules

NORM = re.compile(r"(^|\.)(\w*layer_?norm\w*|ln_\w+|norm\w*|(attn|mlp|final)_norm)\.(weight|bias)$", re.IGNORECASE)
"""Names of the parameters of layer norms: ``LayerNorm``, ``layernorm``, ``ln_1``, ``norm``, ``attn_norm``, …"""


@METHODS.register("houlsby_adapter")
class HoulsbyAdapter(Method):
    """Houlsby adapters: two bottlenecks a layer, behind attention and behind feed-forward; layer norms train too."""

    works_sharded: ClassVar[bool] = True
    paper: ClassVar[str] = "https://arxiv.org/abs/1902.00751"
    other_names: ClassVar[Mapping[str, str]] = {
        "adapter": "Write `houlsby_adapter` or `pfeiffer_adapter`.",
        "adapters": "Write `houlsby_adapter` or `pfeiffer_adapter`.",
        "bottleneck": "Write `houlsby_adapter` or `pfeiffer_adapter`.",
    }
    default_learning_rate: ClassVar[float] = 2e-3

    reduction_factor: PositiveInt = Field(16, description="Hidden size ÷ the bottleneck's width.")
    activation: Activation = Field("gelu", description="Activation between the bottleneck's two layers.")
    train_layer_norm: bool = Field(True, description="Train the base's layer norms, as in the paper.")
    attention_output_modules: ModuleNames = Field(
        "auto", description="Names of the last layer of attention. auto: the usual names."
    )
    feedforward_output_modules: ModuleNames = Field(
        "auto", description="Names of the last layer of the feed-forward block. auto: the usual names."
    )

    def trains(self, name: str) -> bool:
        """Layer norms."""
        return self.train_layer_norm and NORM.search(name) is not None

    def check(self, facts: ModelFacts) -> None:
        """Refuse models whose blocks are unknown."""
        for kind, key, names, ends in self._places():
            check_placement(facts, names, ends, kind=kind, key=key)

    def apply(self, model: Any, context: MethodContext) -> Any:
        """Freeze the base and put the bottlenecks in."""
        known = linear_modules(model, context)
        layers = [
            name
            for kind, key, names, ends in self._places()
            for name in place(known, names, ends, kind=kind, key=key, model=type(model).__name__)
        ]
        freeze_base(model, context, keep=self.trains)
        insert_adapters(model, layers, reduction_factor=self.reduction_factor, activation=self.activation)
        return model

    def _places(self) -> list[tuple[str, str, ModuleNames, tuple[str, ...]]]:
        return [
            ("attention", "attention_output_modules", self.attention_output_modules, ATTENTION_OUTPUTS),
            ("feed-forward", "feedforward_output_modules", self.feedforward_output_modules, FEEDFORWARD_OUTPUTS),
        ]

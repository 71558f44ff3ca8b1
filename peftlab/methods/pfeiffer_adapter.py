"""Pfeiffer adapters: one bottleneck a layer, behind feed-forward (Pfeiffer et al. 2021, https://arxiv.org/abs/2005.00247).

The bottleneck sits inside the residual connection, where Houlsby's second one is. AdapterHub's variant reads the normed
sum instead and adds to the sum; this placement is the same for encoders and decoders, with norms before or after.
"""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field, PositiveInt

from peftlab.core.method import METHODS, Method, MethodContext
from peftlab.core.model_facts import ModelFacts
from peftlab.methods._bottleneck import (
    FEEDFORWARD_OUTPUTS,
    Activation,
    ModuleNames,
    check_placement,
    insert_adapters,
    place,
)
from peftlab.methods._freezing import freeze_base
from peftlab.methods._targets import linear_modules


@METHODS.register("pfeiffer_adapter")
class PfeifferAdapter(Method):
    """Pfeiffer adapters: one bottleneck a layer, behind feed-forward."""

    works_sharded: ClassVar[bool] = True
    paper: ClassVar[str] = "https://arxiv.org/abs/2005.00247"
    default_learning_rate: ClassVar[float] = 6e-3

    reduction_factor: PositiveInt = Field(16, description="Hidden size ÷ the bottleneck's width.")
    activation: Activation = Field("relu", description="Activation between the bottleneck's two layers.")
    feedforward_output_modules: ModuleNames = Field(
        "auto", description="Names of the last layer of the feed-forward block. auto: the usual names."
    )

    def check(self, facts: ModelFacts) -> None:
        """Refuse models whose blocks are unknown."""
        check_placement(
            facts,
            self.feedforward_output_modules,
            FEEDFORWARD_OUTPUTS,
            kind="feed-forward",
            key="feedforward_output_modules",
        )

    def apply(self, model: Any, context: MethodContext) -> Any:
        """Freeze the base and put the bottlenecks in."""
        layers = place(
            linear_modules(model, context),
            self.feedforward_output_modules,
            FEEDFORWARD_OUTPUTS,
            kind="feed-forward",
            key="feedforward_output_modules",
            model=type(model).__name__,
        )
        freeze_base(model, context)
        insert_adapters(model, layers, reduction_factor=self.reduction_factor, activation=self.activation)
        return model

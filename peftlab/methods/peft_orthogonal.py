"""Orthogonal tuning: matrices are rotated instead of added to. Each is a config of peft."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, PositiveInt

from peftlab.core.errors import UnsupportedError
from peftlab.core.method import METHODS
from peftlab.core.model_facts import ModelFacts
from peftlab.methods._peft_adapter import PeftAdapter, undivided


@METHODS.register("oft")
class Oft(PeftAdapter):
    """OFT: matrices are rotated by trained orthogonal blocks."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2306.07280"
    default_learning_rate: ClassVar[float] = 2e-3
    mergeable: ClassVar[bool] = True
    config_class: ClassVar[str] = "OFTConfig"
    peft_names: ClassVar[Mapping[str, str]] = {"block_size": "oft_block_size"}
    fixed: ClassVar[Mapping[str, Any]] = {"use_cayley_neumann": False}
    takes_transposed: ClassVar[bool] = False

    block_size: int = Field(32, ge=2, description="Size of the blocks; must divide the layers' inputs.")

    def misfit(self, inputs: int, outputs: int) -> tuple[str, str] | None:
        """Blocks that do not divide the inputs: peft would take other ones, for each layer its own."""
        why = undivided(self.block_size, inputs=inputs)
        return ("block_size", why) if why else None


@METHODS.register("hra")
class Hra(PeftAdapter):
    """HRA: matrices are rotated by a chain of trained Householder reflections."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2405.17484"
    default_learning_rate: ClassVar[float] = 1e-3
    mergeable: ClassVar[bool] = True
    config_class: ClassVar[str] = "HRAConfig"
    takes_transposed: ClassVar[bool] = False
    multiplies_factors: ClassVar[bool] = True
    peft_names: ClassVar[Mapping[str, str]] = {"rank": "r"}

    rank: PositiveInt = Field(
        8, description="Number of reflections, an even one: pairs of equal ones begin as no change."
    )

    def check(self, facts: ModelFacts) -> None:
        """Refuse an odd number too, with which peft begins with another model than the base.

        Runs that have one are there from before, so the key takes it.
        """
        super().check(facts)
        if self.rank % 2:
            raise UnsupportedError(
                f"an odd number of reflections, {self.rank}, begins with another model than the base",
                where="method.rank",
                hint=f"Set it to {self.rank + 1}.",
            )


@METHODS.register("road")
class Road(PeftAdapter):
    """RoAd: pairs of a layer's outputs are rotated and scaled."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2409.00119"
    default_learning_rate: ClassVar[float] = 1e-2
    mergeable: ClassVar[bool] = True
    config_class: ClassVar[str] = "RoadConfig"
    takes_transposed: ClassVar[bool] = False
    fits_quantized: ClassVar[bool] = True

    variant: Literal["road_1", "road_2", "road_4"] = Field(
        "road_1", description="How many angles and scales each pair has of its own."
    )
    group_size: PositiveInt = Field(
        64,
        multiple_of=2,
        description="Outputs that are paired with each other, an even number; must divide the layers' outputs.",
    )

    def misfit(self, inputs: int, outputs: int) -> tuple[str, str] | None:
        """Groups that do not divide the outputs."""
        why = undivided(self.group_size, outputs=outputs)
        return ("group_size", why) if why else None

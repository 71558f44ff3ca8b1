"""Relatives of LoRA that peft has: low-rank and shared-basis updates, each a config of peft."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, PositiveInt, model_validator

from peftlab.core.method import METHODS, mean_of_updates
from peftlab.methods._peft_adapter import PeftAdapter, undivided

if TYPE_CHECKING:
    from torch import Tensor


@METHODS.register("loha")
class LoHa(PeftAdapter):
    """LoHa: the update is the Hadamard product of two low-rank ones."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2108.06098"
    default_learning_rate: ClassVar[float] = 1e-2
    mergeable: ClassVar[bool] = True
    config_class: ClassVar[str] = "LoHaConfig"
    takes_transposed: ClassVar[bool] = False
    multiplies_factors: ClassVar[bool] = True
    peft_names: ClassVar[Mapping[str, str]] = {"rank": "r"}

    rank: PositiveInt = Field(8, description="Rank of the update of every adapted matrix.")
    alpha: PositiveInt = Field(8, description="Numerator of the scaling: alpha / rank.")


@METHODS.register("lokr")
class LoKr(PeftAdapter):
    """LoKr: the update is a Kronecker product, one of its factors low-rank."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2309.14859"
    default_learning_rate: ClassVar[float] = 1e-2
    mergeable: ClassVar[bool] = True
    config_class: ClassVar[str] = "LoKrConfig"
    takes_transposed: ClassVar[bool] = False
    multiplies_factors: ClassVar[bool] = True
    peft_names: ClassVar[Mapping[str, str]] = {"rank": "r"}

    rank: PositiveInt = Field(8, description="Rank of the update of every adapted matrix.")
    alpha: PositiveInt = Field(8, description="Numerator of the scaling: alpha / rank.")
    decompose_factor: Literal[-1] | PositiveInt = Field(
        -1, description="Size of the smaller factor; -1: near the square root of the matrix's."
    )


@METHODS.register("vera")
class Vera(PeftAdapter):
    """VeRA: all layers share two frozen random matrices; vectors that scale them train."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2310.11454"
    default_learning_rate: ClassVar[float] = 1e-2
    mergeable: ClassVar[bool] = True
    config_class: ClassVar[str] = "VeraConfig"
    multiplies_factors: ClassVar[bool] = True
    peft_names: ClassVar[Mapping[str, str]] = {"rank": "r", "dropout": "vera_dropout"}

    rank: PositiveInt = Field(256, description="Rank of the shared random matrices.")
    dropout: float = Field(0.0, ge=0, lt=1, description="Dropout on the input of the update.")


@METHODS.register("randlora")
class RandLora(PeftAdapter):
    """RandLoRA: a full-rank update, the sum of frozen random low-rank ones with trained scales."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2502.00987"
    default_learning_rate: ClassVar[float] = 1e-3
    mergeable: ClassVar[bool] = True
    config_class: ClassVar[str] = "RandLoraConfig"
    multiplies_factors: ClassVar[bool] = True
    scalings: ClassVar[tuple[str, ...]] = ("randlora_lambda", "randlora_gamma")
    fits_quantized: ClassVar[bool] = True
    peft_names: ClassVar[Mapping[str, str]] = {"rank": "r", "alpha": "randlora_alpha"}

    rank: PositiveInt = Field(32, description="Rank of each random basis; a smaller one trains more.")
    alpha: PositiveInt = Field(640, description="Numerator of the scaling: alpha / rank.")
    save_projection: bool = Field(
        True,
        description="Save the random bases too; peft does so once for each layer, and they are most of the file. "
        "false: they are drawn anew where the adapter is loaded, and peft warns that they might differ elsewhere.",
    )


@METHODS.register("miss")
class Miss(PeftAdapter):
    """MiSS: one small matrix, repeated over shards of the input, updates each layer."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2409.15371"
    default_learning_rate: ClassVar[float] = 3e-4
    mergeable: ClassVar[bool] = True
    config_class: ClassVar[str] = "MissConfig"
    takes_transposed: ClassVar[bool] = False
    peft_names: ClassVar[Mapping[str, str]] = {"rank": "r"}

    rank: PositiveInt = Field(16, description="Rows of the matrix that is repeated; a layer's inputs at most.")

    def misfit(self, inputs: int, outputs: int) -> tuple[str, str] | None:
        """More rows than the layer has inputs."""
        return ("rank", f"{self.rank} is more than its {inputs} inputs") if self.rank > inputs else None


@METHODS.register("hira")
class Hira(PeftAdapter):
    """HiRA: a low-rank update is multiplied into the frozen matrix, which makes it one of high rank."""

    paper: ClassVar[str] = "https://openreview.net/forum?id=TwJrTz9cRS"
    default_learning_rate: ClassVar[float] = 5e-3
    mergeable: ClassVar[bool] = True
    config_class: ClassVar[str] = "HiraConfig"
    fits_quantized: ClassVar[bool] = True
    peft_names: ClassVar[Mapping[str, str]] = {"rank": "r"}

    rank: PositiveInt = Field(32, description="Rank of the update of every adapted matrix.")

    def soup(
        self, parts: Sequence[Mapping[str, Tensor]], config: Mapping[str, Any]
    ) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The exact mean of the updates, as LoRA's: with the matrix W, Σ W ∘ (Bᵢ Aᵢ) = W ∘ ([B₁ …] [A₁; …])."""
        return mean_of_updates(parts, _factor_axis), {"r": len(parts) * config["r"]}


def _factor_axis(name: str) -> int | None:
    return {"hira_A": 0, "hira_B": 1}.get(name.rpartition(".")[2])


@METHODS.register("gralora")
class Gralora(PeftAdapter):
    """GraLoRA: a LoRA of its own for each block of the matrix."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2505.20355"
    default_learning_rate: ClassVar[float] = 2e-3
    mergeable: ClassVar[bool] = True
    config_class: ClassVar[str] = "GraloraConfig"
    multiplies_factors: ClassVar[bool] = True
    peft_names: ClassVar[Mapping[str, str]] = {"rank": "r", "blocks": "gralora_k"}

    rank: PositiveInt = Field(32, description="Rank of the update of every adapted matrix.")
    alpha: PositiveInt = Field(64, description="Numerator of the scaling: alpha / rank.")
    blocks: PositiveInt = Field(2, description="Blocks along each side; must divide the rank and the layers' sizes.")

    @model_validator(mode="after")
    def _check(self) -> Gralora:
        if self.rank % self.blocks:
            raise ValueError(f"`blocks` is {self.blocks}, and does not divide `rank`, {self.rank}")
        return self

    def misfit(self, inputs: int, outputs: int) -> tuple[str, str] | None:
        """Blocks that do not divide both sizes."""
        why = undivided(self.blocks, inputs=inputs, outputs=outputs)
        return ("blocks", why) if why else None


@METHODS.register("vblora")
class VbLora(PeftAdapter):
    """VB-LoRA: the vectors of every LoRA are mixtures from one shared bank."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2405.15179"
    default_learning_rate: ClassVar[float] = 1e-2
    mergeable: ClassVar[bool] = True
    config_class: ClassVar[str] = "VBLoRAConfig"
    multiplies_factors: ClassVar[bool] = True
    peft_names: ClassVar[Mapping[str, str]] = {"rank": "r", "vectors": "num_vectors", "top_k": "topk"}

    rank: PositiveInt = Field(4, description="Rank of the update of every adapted matrix.")
    vectors: PositiveInt = Field(256, description="Vectors of the bank.")
    vector_length: PositiveInt = Field(128, description="Length of each; must divide the layers' sizes.")
    top_k: PositiveInt = Field(2, description="Vectors that are mixed at each place.")

    @model_validator(mode="after")
    def _check(self) -> VbLora:
        if self.top_k > self.vectors:
            raise ValueError("`top_k` is above `vectors`: no more can be mixed than there are")
        return self

    def misfit(self, inputs: int, outputs: int) -> tuple[str, str] | None:
        """Vectors whose length does not divide both sizes."""
        why = undivided(self.vector_length, inputs=inputs, outputs=outputs)
        return ("vector_length", why) if why else None

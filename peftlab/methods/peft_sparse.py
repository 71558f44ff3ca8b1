"""Updates of few numbers, in a basis or at places that are fixed. Each is a config of peft."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field, PositiveFloat, PositiveInt

from peftlab.core.method import METHODS
from peftlab.methods._peft_adapter import PeftAdapter, undivided


@METHODS.register("fourierft")
class FourierFt(PeftAdapter):
    """FourierFT: a few trained Fourier coefficients give each matrix's update."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2405.03003"
    default_learning_rate: ClassVar[float] = 1e-2
    mergeable: ClassVar[bool] = True
    config_class: ClassVar[str] = "FourierFTConfig"
    peft_names: ClassVar[Mapping[str, str]] = {"frequencies": "n_frequency"}

    frequencies: PositiveInt = Field(1000, description="Trained coefficients of each matrix.")
    scaling: PositiveFloat = Field(150.0, description="The update is multiplied by it.")

    def misfit(self, inputs: int, outputs: int) -> tuple[str, str] | None:
        """More coefficients than the matrix has numbers."""
        if self.frequencies <= inputs * outputs:
            return None
        return "frequencies", f"{self.frequencies} are more than its matrix has numbers, {inputs * outputs}"


@METHODS.register("shira")
class Shira(PeftAdapter):
    """SHiRA: a few entries of each matrix train, chosen at random."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2406.13175"
    default_learning_rate: ClassVar[float] = 1e-3
    mergeable: ClassVar[bool] = True
    config_class: ClassVar[str] = "ShiraConfig"
    peft_names: ClassVar[Mapping[str, str]] = {"rank": "r"}
    takes_transposed: ClassVar[bool] = False

    rank: PositiveInt = Field(32, description="As many entries train as a LoRA of this rank has.")

    def misfit(self, inputs: int, outputs: int) -> tuple[str, str] | None:
        """More entries than the matrix has."""
        entries = self.rank * (inputs + outputs)
        if entries <= inputs * outputs:
            return None
        return (
            "rank",
            f"{entries} entries of a LoRA of rank {self.rank} are more than its matrix has, {inputs * outputs}",
        )


@METHODS.register("c3a")
class C3a(PeftAdapter):
    """C3A: each block of the update is a circulant matrix."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2407.19342"
    default_learning_rate: ClassVar[float] = 1e-1
    mergeable: ClassVar[bool] = True
    config_class: ClassVar[str] = "C3AConfig"
    takes_transposed: ClassVar[bool] = False

    block_size: PositiveInt = Field(128, description="Size of the blocks; must divide the layers' sizes.")

    def misfit(self, inputs: int, outputs: int) -> tuple[str, str] | None:
        """Blocks that do not divide both sizes."""
        why = undivided(self.block_size, inputs=inputs, outputs=outputs)
        return ("block_size", why) if why else None

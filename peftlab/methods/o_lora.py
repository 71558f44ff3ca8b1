"""O-LoRA: each run learns in directions of its own (Wang et al. 2023, https://arxiv.org/abs/2310.14152).

The updates of earlier runs are frozen, and a new one beside them is kept orthogonal to them: with B A = Σ Bᵢ Aᵢ the
loss gets λ · Σᵢ ‖Aᵢ Aₜᵀ‖² of every matrix (equation 8). All of them together are a plain LoRA whose rank has grown.
(Not to be taken for OLoRA, an initialisation of LoRA.)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt

from peftlab.core.errors import UnsupportedError
from peftlab.core.method import METHODS, Method, MethodContext
from peftlab.methods.lora import Lora, factor_axis

if TYPE_CHECKING:
    from torch import Tensor, nn


@METHODS.register("o_lora")
class OrthogonalLora(Lora):
    """O-LoRA: a new LoRA for each run that goes on, orthogonal to the frozen ones of the runs before."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2310.14152"
    other_names: ClassVar[Mapping[str, str]] = {}

    orthogonality: NonNegativeFloat = Field(0.5, description="Weight of the overlap with earlier updates.")
    earlier_rank: NonNegativeInt = Field(
        0, description="Ranks of earlier runs' updates, which stay as they are. A run that goes on finds it itself."
    )
    rslora: Literal[False] = Field(False, description="Not with O-LoRA: its rank grows, and the scaling must not.")
    dora: Literal[False] = Field(False, description="Not with O-LoRA.")
    target_parameters: None = Field(None, description="Not with O-LoRA.")
    initialization: Literal["default", "gaussian"] = Field(
        "default", description="default: A by Kaiming, B zero; gaussian: A normal."
    )

    def after(self, earlier: Method) -> Method:
        """Keep the earlier run's ranks, of LoRA or O-LoRA, and put new ones beside them."""
        if not isinstance(earlier, Lora) or earlier.dora or earlier.rslora or earlier.moves_base:
            raise UnsupportedError(
                f"the updates of the earlier run, of {earlier.registered_name}, are no plain LoRA",
                where="method.type",
                hint="O-LoRA goes on from runs of lora and o_lora.",
            )
        if earlier.alpha * self.rank != self.alpha * earlier.rank:
            raise UnsupportedError(
                f"the earlier run scales its update by {earlier.alpha / earlier.rank:g}, and this one by "
                f"{self.alpha / self.rank:g}",
                where="method.alpha",
                hint="Keep alpha / rank as it was.",
            )
        total = earlier.rank + getattr(earlier, "earlier_rank", 0)
        return self.model_validate(self.model_dump() | {"earlier_rank": total})

    def apply(self, model: Any, context: MethodContext) -> Any:
        """A LoRA of all ranks, with the scaling of a single one."""
        total = self.rank + self.earlier_rank
        whole = Lora.model_construct(**{**dict(self), "rank": total, "alpha": self.alpha * total / self.rank})
        return whole.apply(model, context)

    def taken_up(self, saved: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """The earlier ranks first, then the new ones as they start."""
        import torch

        grown = dict(saved)
        for name, tensor in saved.items():
            axis = factor_axis(name)
            if axis is not None:
                fresh = own[name].narrow(axis, self.earlier_rank, self.rank)
                grown[name] = torch.cat([tensor, fresh.to(tensor)], dim=axis)
        return grown

    def begin(self, model: Any, context: MethodContext) -> None:
        """Freeze the earlier ranks: they get no gradient, and weight decay on them is undone."""
        model.earlier_ranks = {name: part.detach().clone() for name, part in self._earlier(model).items()}
        for name, parameter in model.named_parameters():
            if name in model.earlier_ranks:
                parameter.register_hook(_masked(factor_axis(_file_name(name)), self.earlier_rank))

    def penalty(self, model: nn.Module) -> Tensor | None:
        """λ · ‖A_earlier A_newᵀ‖², summed over the matrices."""
        parts = [
            parameter.narrow(0, self.earlier_rank, self.rank) @ parameter.narrow(0, 0, self.earlier_rank).detach().mT
            for name, parameter in model.named_parameters()
            if self.earlier_rank and parameter.requires_grad and factor_axis(_file_name(name)) == 0
        ]
        squares = [part.square().sum() for part in parts]
        return self.orthogonality * sum(squares[1:], squares[0]) if squares and self.orthogonality else None

    def after_step(self, model: Any, step: int) -> None:
        """Put the earlier ranks back."""
        import torch

        with torch.no_grad():
            for name, part in self._earlier(model).items():
                part.copy_(model.earlier_ranks[name])

    def _earlier(self, model: nn.Module) -> dict[str, Tensor]:
        """The earlier ranks of every factor that trains."""
        found = {}
        for name, parameter in model.named_parameters():
            axis = factor_axis(_file_name(name))
            if self.earlier_rank and axis is not None and parameter.requires_grad:
                found[name] = parameter.narrow(axis, 0, self.earlier_rank)
        return found


def _file_name(name: str) -> str:
    """A parameter's name as it is in the file: without the adapter's name."""
    return name.replace(".default", "")


def _masked(axis: int | None, count: int) -> Any:
    def mask(gradient: Tensor) -> Tensor:
        masked = gradient.clone()
        masked.narrow(axis or 0, 0, count).zero_()
        return masked

    return mask

"""Spectral norm: no direction is stretched much (Yoshida and Miyato 2017, https://arxiv.org/abs/1705.10941).

Of an adapter it is the update s B A that is held small in its strongest direction; of a full tuning it is each trained
matrix, as in the paper. PiSSA and OLoRA begin with a part of the base's matrix in B A: there it is what was added to
that. The largest singular value is known by power iteration, one step of it after each of training.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, PositiveFloat, PrivateAttr

from peftlab.core.errors import UnsupportedError
from peftlab.core.method import MethodContext
from peftlab.core.regularizer import REGULARIZERS, Regularizer, TrainingSetup

if TYPE_CHECKING:
    from torch import Tensor, nn

FIRST_ITERATIONS = 10


@REGULARIZERS.register("spectral")
class Spectral(Regularizer):
    """Spectral norm: the largest singular value of each low-rank update, or of each trained matrix, is held small."""

    paper: ClassVar[str] = "https://arxiv.org/abs/1705.10941"
    memory: ClassVar[str] = "at most one copy of the trained matrices"
    replayable: ClassVar[bool] = True

    strength: PositiveFloat = Field(0.01, description="λ: half of it weighs the squared norms.")

    _directions: dict[str, Tensor] = PrivateAttr(default_factory=dict)
    _base: dict[str, Tensor] = PrivateAttr(default_factory=dict)

    def check(self, setup: TrainingSetup) -> None:
        """Refuse methods that train no matrices which are applied to hidden states."""
        if not (setup.method.has_low_rank_updates or setup.method.trains_base):
            raise UnsupportedError(
                f"{setup.method.registered_name} has neither low-rank updates B A nor whole matrices that train",
                hint="Leave spectral out, or choose the method lora or full.",
            )

    def begin(self, model: nn.Module, context: MethodContext) -> None:
        """Draw a direction for each matrix, by a generator of its own, and turn it towards the strongest."""
        import torch

        device = next(model.parameters()).device
        moved: Mapping[str, Tensor] = getattr(model, "initial_adapter", {})
        self._base = {name: tensor.to(device) for name, tensor in moved.items()}
        drawn = torch.Generator().manual_seed(context.seed)
        for name, width, like, _ in _maps(model, self._base):
            start = torch.randn(width, generator=drawn)
            self._directions[name] = (start / start.norm()).to(like.device, like.dtype)
        for _ in range(FIRST_ITERATIONS):
            self._turn(model)

    def after_step(self, model: nn.Module, step: int) -> None:
        """Turn each direction by one step of power iteration."""
        self._turn(model)

    def penalty(self, model: nn.Module) -> Tensor:
        """λ / 2 · Σ ‖W v‖², whose gradient is that of σ₁² where v is the strongest direction."""
        squares = [apply(self._directions[name]).square().sum() for name, _, _, apply in _maps(model, self._base)]
        return self.strength / 2 * sum(squares[1:], squares[0])

    def state(self, model: nn.Module) -> Mapping[str, Tensor]:
        """The directions."""
        return self._directions

    def restore(self, model: nn.Module, state: Mapping[str, Tensor]) -> None:
        """Take the directions up."""
        own = self._directions
        self._directions = {name: value.to(own[name].device, copy=True) for name, value in state.items()}

    def _turn(self, model: nn.Module) -> None:
        """Make each direction v to Wᵀ W v, at length 1; where W v is 0, as in a new adapter, it stays."""
        import torch

        for name, _, _, apply in _maps(model, self._base):
            with torch.enable_grad():
                own = self._directions[name].clone().requires_grad_()
                (turned,) = torch.autograd.grad(apply(own).square().sum() / 2, own)
            length = turned.norm()
            # In place: what is measured holds on to the tensors that there were before a step.
            self._directions[name].copy_(torch.where(length > 0, turned / length.clamp_min(1e-30), own.detach()))


Map = tuple[str, int, "Tensor", Callable[["Tensor"], "Tensor"]]
"""The name of a matrix, its width, a tensor of its device and type, and what it makes of a vector."""


def _maps(model: Any, base: Mapping[str, Tensor]) -> Iterator[Map]:
    """Each low-rank update, or where there is none each trained matrix that is applied to hidden states.

    Args:
        model: Wrapped by its method.
        base: What the factors hold of the base's matrices, by their names in the adapter's file.
    """
    yield from list(_updates(model, base)) or _matrices(model)


def _updates(model: Any, base: Mapping[str, Tensor]) -> Iterator[Map]:
    for name, module in model.named_modules():
        factors, scaling = getattr(module, "lora_A", {}), getattr(module, "scaling", {})
        for adapter in factors:
            a, b = factors[adapter].weight, module.lora_B[adapter].weight
            if not (a.requires_grad or b.requires_grad) or a.ndim != 2:  # LoRA-FA's A stays as it is
                continue
            experts = getattr(module, "num_experts", 1)
            if experts > 1:  # A has the ranks of one expert after the other, and B the experts of one rank
                each_b = b.unflatten(1, (-1, experts)).unbind(2)
                for place, (down, up) in enumerate(zip(a.chunk(experts), each_b, strict=True)):
                    update = partial(_update, down, up, (None, None), scaling[adapter])
                    yield f"{name}.{adapter}.{place}", a.shape[1], a, update
                continue
            first = (base.get(f"{name}.lora_A.weight"), base.get(f"{name}.lora_B.weight"))
            yield f"{name}.{adapter}", a.shape[1], a, partial(_update, a, b, first, scaling[adapter])


def _update(a: Tensor, b: Tensor, first: tuple[Tensor | None, Tensor | None], scaling: float, vector: Tensor) -> Tensor:
    made = b @ (a @ vector)
    first_a, first_b = first
    return scaling * (made if first_a is None or first_b is None else made - first_b @ (first_a @ vector))


def _matrices(model: Any) -> Iterator[Map]:
    from torch.nn import Embedding

    for name, module in model.named_modules():
        weight = getattr(module, "weight", None)
        if weight is not None and weight.requires_grad and weight.ndim == 2 and not isinstance(module, Embedding):
            yield name, weight.shape[1], weight, weight.__matmul__

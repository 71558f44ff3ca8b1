"""Load balance of a mixture's experts: the router's auxiliary loss (Fedus et al. 2021, https://arxiv.org/abs/2101.03961).

As transformers adds it to a language model's loss where the config has ``output_router_logits``: its own function of
the routers' logits of all layers, without padding, times ``router_aux_loss_coef``. Where a step has several batches it
is the mean over them, each weighed by its terms of the loss.
"""

from __future__ import annotations

import contextlib
import inspect
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, NonNegativeFloat, PrivateAttr

from peftlab.core.errors import UnsupportedError
from peftlab.core.hooks import Backward
from peftlab.core.regularizer import REGULARIZERS, Regularizer, TrainingSetup

if TYPE_CHECKING:
    from torch import Tensor, nn

FUNCTION = "load_balancing_loss_func"
ARGUMENTS = {"gate_logits", "num_experts", "top_k", "attention_mask"}


@REGULARIZERS.register("router_balance")
class RouterBalance(Regularizer):
    """Router balance: the tokens of a mixture are spread over its experts, by the auxiliary loss of transformers."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2101.03961"
    memory: ClassVar[str] = "the routers' logits"

    coefficient: NonNegativeFloat | None = Field(
        None,
        description="Weight of the auxiliary loss. null: `router_aux_loss_coef` of the base's config, where "
        "transformers has such a loss for it.",
    )

    _weight: float = PrivateAttr(0.0)
    _router: Any = PrivateAttr(None)

    @classmethod
    def comes_with(cls, setup: TrainingSetup) -> bool:
        """With a mixture whose routers train, or whose config asks for it."""
        config = setup.facts.config
        wants = setup.method.trains_base or config.get("output_router_logits") is True
        return wants and bool(config.get("router_aux_loss_coef")) and setup.task.peft_task() == "CAUSAL_LM"

    def check(self, setup: TrainingSetup) -> None:
        """Refuse models without routers, as far as their weights' names tell, and tasks that write no text."""
        shapes = setup.facts.weights or {}
        if shapes and not any("router" in name or "expert" in name for name in shapes):
            raise UnsupportedError(
                f"{setup.facts.path} ({setup.facts.model_type}) has no experts that tokens are sent to",
                hint="Leave router_balance out.",
            )
        if setup.task.peft_task() != "CAUSAL_LM":
            raise UnsupportedError(
                f"transformers knows router_balance of models that write, and {setup.task.registered_name} has another "
                "head",
                hint="Leave router_balance out.",
            )

    def around_backward(self, backward: Backward, model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """The loss of the batch, and for each of its terms the weighted auxiliary loss.

        Raises:
            UnsupportedError: A coefficient is given, and transformers has no such loss for this model.
        """
        if self.coefficient != 0 and self._router is None:
            self._look_at(_language_model(model))
        if not self._weight:
            return backward()

        def loss(model: Any, batch: Mapping[str, Tensor]) -> Tensor:
            inner = _language_model(model)
            with _recording(inner, self._router) as logits:
                own = backward.loss(model, batch)
            balance = _balance_loss(inner, tuple(logits), batch["attention_mask"])
            return own + self._weight * backward.task.loss_terms(batch) * balance

        return backward(loss)

    def _look_at(self, inner: Any) -> None:
        """Find the routers, and the weight of their loss."""
        self._router = _recorded(inner)
        if self._router is not None:
            self._weight = float(inner.router_aux_loss_coef if self.coefficient is None else self.coefficient)
        elif self.coefficient is not None:
            raise UnsupportedError(
                f"transformers has no balance loss for {type(inner).__name__} that router_balance knows",
                where="training.regularizers",
                hint="Leave it out.",
            )

    def notices(self) -> Mapping[str, str]:
        """Which weight it had."""
        if self.coefficient == 0:
            return {}
        told = f"was a part of the loss, with weight {self._weight:g}" if self._weight else "was no part of the loss"
        return {"router_balance": f"the routers' balance loss {told}"}


def _language_model(model: nn.Module) -> Any:
    from transformers import PreTrainedModel

    return next((module for module in model.modules() if isinstance(module, PreTrainedModel)), model)


def _recorded(inner: Any) -> Any:
    """What transformers records as the routers' logits; None where it has no balance loss of the usual kind."""
    from transformers.utils.output_capturing import OutputRecorder

    function = getattr(sys.modules[type(inner).__module__], FUNCTION, None)
    if function is None or not set(inspect.signature(function).parameters) >= ARGUMENTS:
        return None
    if not all(hasattr(inner, name) for name in ("router_aux_loss_coef", "num_experts", "num_experts_per_tok")):
        return None
    recorders = (getattr(module, "_can_record_outputs", None) or {} for module in inner.modules())
    found = next((each["router_logits"] for each in recorders if "router_logits" in each), None)
    return found if isinstance(found, OutputRecorder) else None


@contextlib.contextmanager
def _recording(inner: Any, router: Any) -> Iterator[list[Tensor]]:
    """Collect the routers' logits (tokens × experts), layer by layer.

    What gradient checkpointing computes again comes later, in the backward pass, and is not collected.
    """
    logits: list[Tensor] = []

    def take(_module: nn.Module, _inputs: Any, output: Any) -> None:
        logits.append(output if router.index == 0 and not isinstance(output, tuple) else output[router.index])

    handles = [
        module.register_forward_hook(take)
        for name, module in inner.named_modules()
        if isinstance(module, router.target_class) and (router.layer_name or "") in name
    ]
    try:
        yield logits
    finally:
        for handle in handles:
            handle.remove()


def _balance_loss(inner: Any, logits: tuple[Tensor, ...], mask: Tensor) -> Tensor:
    from torch.nn import functional

    if not logits:
        raise UnsupportedError(
            f"{type(inner).__name__} sends no token to experts", where="training.regularizers", hint="Leave it out."
        )
    virtual = len(logits[0]) // len(mask) - mask.shape[1]  # tokens that a method puts before each text
    function = getattr(sys.modules[type(inner).__module__], FUNCTION)
    mask = functional.pad(mask, (virtual, 0), value=1)
    loss: Tensor = function(logits, inner.num_experts, inner.num_experts_per_tok, mask)
    return loss

"""A method at work on a tiny model: wrapped, trained for some steps with its hooks, and asked for its logits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from peftlab.core.errors import UnsupportedError
from peftlab.core.hooks import Backward, LossFunction
from peftlab.core.method import Method
from peftlab.testing.broken_contract import BrokenContractError, require
from peftlab.testing.tiny_models import Kind, toy_batch
from peftlab.training.guards import GradientGuard
from peftlab.training.hooks import HookList


def wrap(method: Method, kind: Kind, base: nn.Module | None = None, *, steps: int) -> Any:
    """The base of a kind, wrapped by a method as a run does it.

    Args:
        method: New: what it remembers is of this model.
        kind: Of the model.
        base: Of that kind; None: a new one.
        steps: Of the whole run.

    Raises:
        BrokenContractError: The method refuses the model, or gives none back.
    """
    __tracebackhide__ = True
    whose = f"{method.registered_name} on {kind}"
    model: Any = kind.build() if base is None else base
    torch.manual_seed(0)
    try:
        method.check(kind.facts(model))
        wrapped = method.apply(model, kind.context(steps))
    except UnsupportedError as error:
        raise BrokenContractError(
            f"{whose}: the model is refused: {error}",
            hint=f'If that is meant, write refuses = ("{kind}",) into the class of the tests.',
        ) from None
    require(
        isinstance(wrapped, nn.Module),
        f"{whose}: `apply` gives {type(wrapped).__name__}, and no model",
        hint="It returns the model to train: `return model` at its end.",
    )
    return wrapped


def optimizer_of(method: Method, model: Any) -> torch.optim.Optimizer:
    """AdamW over what trains, at the method's own rate and without decay."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    require(
        trained,
        f"{method.registered_name}: nothing trains in the model that `apply` gives",
        hint="What trains has requires_grad = True, and so does the head.",
    )
    return torch.optim.AdamW(trained, lr=method.default_learning_rate, weight_decay=0.0)


def step(
    method: Method,
    model: Any,
    kind: Kind,
    optimizer: torch.optim.Optimizer,
    batch: Mapping[str, Tensor],
    number: int,
    guard: GradientGuard | None = None,
) -> float:
    """One step as the training loop takes it, with the method's hooks.

    Args:
        method: That has wrapped the model.
        model: In either mode; there is no dropout.
        kind: Of the model.
        optimizer: Of what trains.
        batch: To learn from.
        number: Of the step, from 1.
        guard: Looks at the gradients.

    Returns:
        The mean loss of the batch, before the step.
    """
    terms = kind.task.loss_terms(batch)

    def run(loss_of: LossFunction, weight: float) -> Tensor:
        loss = loss_of(model, batch) / terms
        (loss * weight).backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    loss = HookList([method]).around(Backward(kind.task, kind.task.training_loss, 1.0, run), model, batch)
    require(
        isinstance(loss, Tensor),
        f"`around_backward` of {method.registered_name} gives {type(loss).__name__}",
        hint="It returns the loss that a call of `backward` returned.",
    )
    penalty = method.penalty(model)
    if penalty is not None:
        require(
            isinstance(penalty, Tensor) and penalty.ndim == 0 and penalty.requires_grad,
            f"`penalty` of {method.registered_name} gives {_described(penalty)}",
            hint="It is None, or a tensor without dimensions that hangs on what trains: no float, and not detached.",
        )
        penalty.backward()  # type: ignore[no-untyped-call]
    if guard is not None:
        guard.observe(model)
    optimizer.step()
    method.after_step(model, number)
    optimizer.zero_grad(set_to_none=True)
    return float(loss)


def _described(value: object) -> str:
    if not isinstance(value, Tensor):
        return f"{type(value).__name__} {value!r}"
    return f"a tensor of shape {tuple(value.shape)}{'' if value.requires_grad else ' without a gradient'}"


def begin(method: Method, kind: Kind, *, steps: int) -> tuple[Any, torch.optim.Optimizer]:
    """A wrapped model whose run has begun, and its optimizer."""
    model = wrap(method, kind, steps=steps)
    method.begin(model, kind.context(steps))
    return model, optimizer_of(method, model)


def logits_of(model: Any, kind: Kind) -> Tensor:
    """What a model says of the toy batch."""
    with torch.inference_mode():
        return kind.task.logits(model, toy_batch(kind))


@dataclass(frozen=True)
class Paused:
    """What a checkpoint holds of a run, beside the random generators.

    Args:
        parameters: What trains, by name.
        state: The method's own.
        moments: The optimizer's.
    """

    parameters: Mapping[str, Tensor]
    state: Mapping[str, Tensor]
    moments: Mapping[int, Mapping[str, Tensor]]

    @classmethod
    def of(cls, method: Method, model: Any, optimizer: torch.optim.Optimizer) -> Paused:
        """Note where a run stands.

        Raises:
            BrokenContractError: The method's state holds something that a checkpoint cannot.
        """
        state = method.state(model)
        for key, value in state.items():
            require(
                isinstance(value, Tensor),
                f"`state` of {method.registered_name} gives {type(value).__name__} for {key}",
                hint="A checkpoint holds tensors: torch.tensor(number).",
            )
        return cls(
            {name: each.detach().clone() for name, each in model.named_parameters() if each.requires_grad},
            {name: each.detach().clone() for name, each in state.items()},
            {
                at: {name: each.clone() for name, each in own.items()}
                for at, own in optimizer.state_dict()["state"].items()
            },
        )

    def restore(self, method: Method, model: Any, optimizer: torch.optim.Optimizer) -> None:
        """Let another run, which has just begun, go on from here."""
        own = {name: each for name, each in model.named_parameters() if each.requires_grad}
        require(
            own.keys() == self.parameters.keys(),
            f"{method.registered_name}: other parameters train after a resumption: "
            f"{', '.join(sorted(own.keys() ^ self.parameters.keys())[:3])}",
            hint="`apply` must let the same ones train each time.",
        )
        with torch.no_grad():
            for name, parameter in own.items():
                parameter.copy_(self.parameters[name])
        method.restore(model, self.state)
        optimizer.load_state_dict({"state": self.moments, "param_groups": optimizer.state_dict()["param_groups"]})

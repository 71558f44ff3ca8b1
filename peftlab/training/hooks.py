"""A run's list of hooks: each is called in its turn, and the loop need not know how many there are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from peftlab.core.errors import ConfigError
from peftlab.core.given_values import check_kind
from peftlab.core.hooks import Backward, LossFunction, ScoreOf, TrainingHooks, TrainingRows, below
from peftlab.core.lent_weights import lent_weights
from peftlab.core.method import MethodContext
from peftlab.core.past import Past
from peftlab.core.record import Guard
from peftlab.core.task import Task
from peftlab.training.averaged_weights import averaged_weights
from peftlab.training.text_pairs import EncodedPairs, Pick


class HookList:
    """The hooks of one run.

    Args:
        hooks: The method's first, then the regularisers' in the recipe's order. Their names must differ: under them
            their states stand in a checkpoint.

    Raises:
        ConfigError: Two have one name.
    """

    def __init__(self, hooks: Sequence[TrainingHooks]) -> None:
        self._hooks = tuple(hooks)
        self._averaging: Any = None
        self._pairs: EncodedPairs | None = None
        names = [hook.registered_name for hook in hooks]
        if doubled := [name for name in names if names.count(name) > 1]:
            raise ConfigError(f"two of the method and the regularizers are called `{doubled[0]}`", where="training")
        base = TrainingHooks.around_backward
        around = [hook for hook in hooks if type(hook).around_backward is not base]
        self._around = sorted(around, key=lambda hook: not hook.outermost)
        self._penalties = [hook for hook in hooks if type(hook).penalty is not TrainingHooks.penalty]

    @property
    def are_around(self) -> bool:
        """Whether a hook does anything around a backward pass."""
        return bool(self._around)

    def not_replayable(self) -> str | None:
        """The first one for which passes must be computed anew each time."""
        base = TrainingHooks
        for hook in self._hooks:
            own = type(hook)
            changes = any(getattr(own, name) is not getattr(base, name) for name in ("begin", "after_step", "penalty"))
            if hook in self._around or (changes and not own.replayable):
                return hook.registered_name
        return None

    @classmethod
    def begin(
        cls,
        hooks: Sequence[TrainingHooks],
        model: nn.Module,
        context: MethodContext,
        rows: TrainingRows | None = None,
        begun: Mapping[str, Tensor] | None = None,
    ) -> HookList:
        """The list of hooks that have been told that their run begins, on the device that the model is on.

        Args:
            hooks: The method's first: where rows say how it starts, the others begin with that start.
            model: Wrapped by the method.
            context: What the method was told.
            rows: For those that look at training rows; None: there are none to look at.
            begun: The state of a run that goes on. Who has one begins with that, and not with the rows.
        """
        for hook in hooks:
            hook.begin(model, context)
            own = below(f"{hook.registered_name}/", begun or {})
            if rows is not None and hook.needs_rows and own:
                hook.restore(model, own)
            elif rows is not None and hook.needs_rows:
                hook.take_rows(model, rows)
        return cls(hooks)

    @property
    def need_unlabeled(self) -> bool:
        """Whether one learns from texts without labels."""
        return any(hook.needs_unlabeled for hook in self._hooks)

    def give_pairs(self, pairs: EncodedPairs) -> None:
        """Let those that learn from texts without labels have them."""
        self._pairs = pairs
        for hook in self._hooks:
            if hook.needs_unlabeled:
                hook.take_pairs(pairs)

    def pairs_of(self, pick: Pick) -> AbstractContextManager[None]:
        """Texts without labels are picked in another way than in training, as long as the context lasts."""
        return nullcontext() if self._pairs is None else self._pairs.picked(pick)

    def remember(self, model: nn.Module, past: Past) -> dict[str, Tensor]:
        """What all keep of the earlier run: ``<hook's name>/<key>``."""
        found: dict[str, Tensor] = {}
        for hook in self._hooks:
            own = hook.remember(model, replace(past, kept=below(f"{hook.registered_name}/", past.kept)))
            found |= {f"{hook.registered_name}/{key}": value for key, value in own.items()}
        return found

    def rate_factors(self, model: nn.Module) -> dict[str, float]:
        """The product of all factors of each parameter that one of them names."""
        factors: dict[str, float] = {}
        for hook in self._hooks:
            for name, factor in hook.rate_factors(model).items():
                factors[name] = factors.get(name, 1.0) * factor
        return factors

    def training_task(self, task: Task) -> Task:
        """The task as it is trained."""
        for hook in self._hooks:
            task = hook.training_task(task)
        return task

    def around(self, innermost: Backward, model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """The backward pass of a batch with all hooks around it, the first one outermost."""
        backward = innermost
        for hook in reversed(self._around):
            backward = _within(hook, backward, model, batch)
        return backward()

    def penalty(self, model: nn.Module) -> Tensor | None:
        """The sum of the penalties."""
        found = [penalty for hook in self._penalties if (penalty := hook.penalty(model)) is not None]
        return sum(found[1:], found[0]) if found else None

    def after_step(self, model: nn.Module, step: int) -> None:
        """Tell all of a step."""
        for hook in self._hooks:
            hook.after_step(model, step)

    def state(self, model: nn.Module) -> dict[str, Tensor]:
        """What all want to find again: ``<hook's name>/<key>``."""
        found: dict[str, Tensor] = {}
        for hook in self._hooks:
            for key, value in hook.state(model).items():
                what = f"state of {hook.registered_name}, {key},"
                check_kind(value, Tensor, what=what, hint="A checkpoint holds tensors: torch.tensor(number).")
                found[f"{hook.registered_name}/{key}"] = value
        return found

    def restore(self, model: nn.Module, state: Mapping[str, Tensor]) -> None:
        """Give each hook its own back."""
        for hook in self._hooks:
            hook.restore(model, below(f"{hook.registered_name}/", state))

    def restore_best(self, model: nn.Module, state: Mapping[str, Tensor]) -> None:
        """Give each hook its own of the best evaluation back; one that chooses at the end knows later weights too."""
        for hook in self._hooks:
            if type(hook).weights_at_end is TrainingHooks.weights_at_end:
                hook.restore(model, below(f"{hook.registered_name}/", state))

    def follow(self, optimizer: Any) -> None:
        """Evaluate and keep the averages of an optimizer that has some, such as a schedule-free one."""
        self._averaging = optimizer

    def weights_to_keep(self, model: nn.Module) -> dict[str, Tensor]:
        """What evaluation and artifact take instead of the last weights."""
        averages = {} if self._averaging is None else averaged_weights(self._averaging, model)
        return averages | {name: value for hook in self._hooks for name, value in hook.weights_to_keep(model).items()}

    def kept_weights(self, model: nn.Module) -> AbstractContextManager[None]:
        """The model with the weights that it would leave, as long as the context lasts."""
        return lent_weights(model, self.weights_to_keep(model))

    def after_evaluation(self, model: nn.Module, step: int, score: float) -> None:
        """Tell all of an evaluation."""
        for hook in self._hooks:
            hook.after_evaluation(model, step, score)

    def weights_at_end(self, model: nn.Module, score_of: ScoreOf) -> dict[str, Tensor]:
        """What the run leaves instead of its best weights."""
        return {name: value for hook in self._hooks for name, value in hook.weights_at_end(model, score_of).items()}

    def notices(self) -> dict[str, str]:
        """What all have to say when training is over."""
        return {name: told for hook in self._hooks for name, told in hook.notices().items()}

    def can_be_best(self, model: nn.Module, step: int) -> bool:
        """Whether all agree."""
        return all(hook.can_be_best(model, step) for hook in self._hooks)

    def may_end_unchanged(self, name: str, parameter: Tensor) -> bool:
        """Whether one says so."""
        return any(hook.may_end_unchanged(name, parameter) for hook in self._hooks)

    def decays(self, name: str, parameter: Tensor) -> bool:
        """Whether all agree."""
        return all(hook.decays(name, parameter) for hook in self._hooks)

    @torch.no_grad()
    def guards(self, model: nn.Module, context: MethodContext) -> dict[str, Guard]:
        """The guards of all."""
        return {name: guard for hook in self._hooks for name, guard in hook.guards(model, context).items()}


def _within(hook: TrainingHooks, inner: Backward, model: nn.Module, batch: Mapping[str, Tensor]) -> Backward:
    """A pass that is the hook's around another one."""

    def run(loss: LossFunction, weight: float) -> Tensor:
        told = hook.around_backward(Backward(inner.task, loss, weight, inner.run), model, batch)
        what = f"around_backward of {hook.registered_name}"
        check_kind(told, Tensor, what=what, hint="Return what a call of `backward` has returned.")
        return told

    return Backward(inner.task, inner.loss, inner.weight, run)

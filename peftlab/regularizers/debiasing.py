"""Debiasing by gradient reversal (Ganin et al. 2016, https://arxiv.org/abs/1505.07818).

An adversary, two small layers, learns to tell the group of a text from what the model makes of it; the model learns to
make it fail. The adversary reads the mean of the last layer's states and the logits, so nothing that decides is hidden
from it. It may know the label (Zhang et al. 2018, https://arxiv.org/abs/1801.07593): then only what tells groups of one
class apart is taken away, and a group in which a class is more frequent stays so.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import Field, PositiveFloat, PositiveInt, PrivateAttr

from peftlab.core.config import replace_config
from peftlab.core.errors import DataError, UnsupportedError
from peftlab.core.hooks import Backward
from peftlab.core.method import MethodContext
from peftlab.core.regularizer import REGULARIZERS, TrainingSetup
from peftlab.core.splits import Example, Split
from peftlab.core.task import Task
from peftlab.regularizers._classes import NeedsClasses

if TYPE_CHECKING:
    from torch import Tensor, nn

GROUP = "group_number"
"""The key of a training example, and of a batch, that holds the number of the row's group."""
UNKNOWN = -100
"""The number of a row without a group: the adversary does not learn from it."""
BETAS = (0.9, 0.999)


@REGULARIZERS.register("debiasing")
class Debiasing(NeedsClasses):
    """Debiasing: an adversary that tells the group of a text is made to fail (gradient reversal)."""

    paper: ClassVar[str] = "https://arxiv.org/abs/1505.07818"
    memory: ClassVar[str] = "four copies of two small layers"
    replaces_loss: ClassVar[bool] = True
    one_process: ClassVar[bool] = True

    by: str = Field(
        "group", min_length=1, description="The column with the group of each training row; empty: unknown."
    )
    groups: list[str] | None = Field(
        None, min_length=2, description="The groups that are told apart. null: all of the training rows."
    )
    strength: float = Field(
        0.7, gt=0, le=1, description="Weight of the reversed gradient, which is as long as the task's own at most."
    )
    given_label: bool = Field(
        True, description="Let the adversary know the label, so that only groups within a class become alike."
    )
    warmup: float = Field(
        0.1, ge=0, lt=1, description="Share of the run before the gradient is reversed; the adversary learns meanwhile."
    )
    hidden: PositiveInt = Field(64, description="Size of the adversary's hidden layer.")
    learning_rate: PositiveFloat = Field(3e-3, description="Of the adversary, with Adam.")

    _weights: dict[str, Tensor] = PrivateAttr(default_factory=dict)
    _moments: dict[str, Tensor] = PrivateAttr(default_factory=dict)
    _steps: int = PrivateAttr(0)
    _total: int = PrivateAttr(1)
    _watched: list[Any] = PrivateAttr(default_factory=list)

    def check(self, setup: TrainingSetup) -> None:
        """Refuse tasks that decide on tokens, and columns that say what is right."""
        super().check(setup)
        task = setup.task
        if task.peft_task_type != "SEQ_CLS" or not task.one_row_an_example:
            raise UnsupportedError("debiasing needs a task with one class a text, read at once", hint="Leave it out.")
        if self.by in (*task.text_columns(), *task.label_columns()):
            raise UnsupportedError(f"the column `{self.by}` is the task's own", hint="Name a column with groups.")

    def source_columns(self) -> tuple[str, ...]:
        """That of the groups."""
        return (self.by,)

    def learn(self, train: Split) -> Self:
        """The groups of the training rows, where none are named.

        Raises:
            DataError: There is no such column, or less than two groups are in it.
        """
        found = {name for value in train.columns[self.by] if (name := _name(value)) is not None}
        if not found:
            raise DataError(f"no training row has a value in the column `{self.by}`", where=train.source)
        missing = sorted(set(self.groups or ()) - found)
        if missing:
            raise DataError(f"no training row is of the group {missing[0]!r}", where=f"{train.source}, {self.by}")
        if len(found) < 2:
            raise DataError(
                f"all training rows are of one group, {min(found)!r}; two are needed",
                where=f"{train.source}, column `{self.by}`",
            )
        return replace_config(self, groups=self.groups or sorted(found))

    def example_values(self, train: Split) -> Mapping[str, Sequence[Any]]:
        """The number of each row's group."""
        numbers = {name: at for at, name in enumerate(self.groups or ())}
        return {GROUP: [numbers.get(_name(value) or "", UNKNOWN) for value in train.columns[self.by]]}

    def training_task(self, task: Task) -> Task:
        """The task whose batches hold the groups."""
        kind: Any = type(task)

        def collate(self: Any, examples: Sequence[Example], pad_token_id: int) -> dict[str, Tensor]:
            import torch

            groups = torch.tensor([example.get(GROUP, UNKNOWN) for example in examples])
            return {**kind.collate(self, examples, pad_token_id), GROUP: groups}

        copy = task.model_copy()
        copy.__class__ = type(kind.__name__, (kind,), {"collate": collate, "__module__": kind.__module__})
        return copy

    def begin(self, model: nn.Module, context: MethodContext) -> None:
        """Draw the adversary, from a generator of its own: the run draws the same numbers with it and without."""
        import torch

        first: Any = next(model.parameters())
        facts: Any = model.config
        size, classes, groups = facts.hidden_size + facts.num_labels, facts.num_labels, len(self.groups or (0, 1))
        shapes = {"in": (self.hidden, size), "out": (classes * groups if self.given_label else groups, self.hidden)}
        generator = torch.Generator().manual_seed(context.seed)
        self._weights = {}
        for name, shape in shapes.items():
            matrix = torch.randn(shape, generator=generator) / math.sqrt(shape[1])
            for key, value in ((name, matrix), (f"{name}_bias", torch.zeros(shape[0]))):
                self._weights[key] = value.to(first.device).requires_grad_()
        self._moments = {
            f"{key}/{moment}": torch.zeros_like(value) for key, value in self._weights.items() for moment in (1, 2)
        }
        self._steps, self._total = 0, max(1, context.total_steps)
        self._watched = [parameter for parameter in model.parameters() if parameter.requires_grad]

    def around_backward(self, backward: Backward, model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """The loss, and with it the adversary's, whose gradient is turned round where it enters the model."""
        if all(parameter.grad is None for parameter in self._watched):  # a step begins, or begins anew
            for weight in self._weights.values():
                weight.grad = None
        task = backward.task

        def loss(prepared: Any, batch: Mapping[str, Tensor]) -> Tensor:
            from torch.nn import functional

            with _last_states(model) as states:
                logits = task.logits(prepared, batch)
            own = task.loss(logits, batch)
            found = states()
            read = [_mean(found, batch["attention_mask"]), logits.float()]
            # The adversary learns by copies: its gradients do not go into the model by themselves.
            copies = [each.detach().requires_grad_() for each in read]
            told = self._told(copies, batch["labels"])
            wrong = functional.cross_entropy(told, batch[GROUP], ignore_index=UNKNOWN, reduction="sum")
            against = _reversed(own, wrong, [found, logits], read, copies) * self._strength_now()
            # Their values are left out of what is logged and watched; their gradients are not.
            return own + (wrong - wrong.detach()) + (against - against.detach())

        return backward(loss)

    def _told(self, read: Sequence[Tensor], labels: Tensor) -> Tensor:
        """What the adversary says of each text's group (batch × groups)."""
        import torch
        from torch.nn import functional

        weights, texts = self._weights, len(labels)
        found = functional.linear(torch.cat(list(read), dim=1), weights["in"], weights["in_bias"]).relu()
        found = functional.linear(found, weights["out"], weights["out_bias"])
        if not self.given_label:
            return found
        by_class = found.view(texts, read[1].shape[1], -1)
        return by_class[torch.arange(texts, device=labels.device), labels]

    def _strength_now(self) -> float:
        """It rises from 0 once the warm-up is over (Ganin et al. 2016, section 5.2.2)."""
        done = max(0.0, self._steps / self._total - self.warmup) / (1 - self.warmup)
        return self.strength * (2 / (1 + math.exp(-10 * done)) - 1)

    def after_step(self, model: nn.Module, step: int) -> None:
        """A step of Adam for the adversary; none where float16 overflowed, as the model takes none then."""
        import torch

        self._steps = step
        gradients: dict[str, Any] = {key: w.grad for key, w in self._weights.items() if w.grad is not None}
        if not gradients:
            return
        with torch.no_grad():
            fits = torch.stack([gradient.isfinite().all() for gradient in gradients.values()]).all()
            for key, gradient in gradients.items():
                weight, first, second = (self._weights[key], *(self._moments[f"{key}/{moment}"] for moment in (1, 2)))
                first.copy_(torch.where(fits, first.lerp(gradient, 1 - BETAS[0]), first))
                second.copy_(torch.where(fits, second.lerp(gradient.square(), 1 - BETAS[1]), second))
                scale = (second / (1 - BETAS[1] ** step)).sqrt_().add_(1e-8)
                update = self.learning_rate * first / (1 - BETAS[0] ** step) / scale
                weight.sub_(torch.where(fits, update, 0.0))
                weight.grad = None

    def state(self, model: nn.Module) -> Mapping[str, Tensor]:
        """The adversary, its moments, and the step."""
        import torch

        weights = {f"weights/{key}": value.detach() for key, value in self._weights.items()}
        return weights | self._moments | {"step": torch.tensor(self._steps)}

    def restore(self, model: nn.Module, state: Mapping[str, Tensor]) -> None:
        """Take the adversary up, on the device of the model."""
        import torch

        self._steps = int(state["step"])
        with torch.no_grad():
            for key, weight in self._weights.items():
                weight.copy_(state[f"weights/{key}"])
            for key, moment in self._moments.items():
                moment.copy_(state[key])


def _name(value: Any) -> str | None:
    """The name of a group; None where it is unknown."""
    return None if value is None or not str(value).strip() else str(value).strip()


def _reversed(
    own: Tensor, wrong: Tensor, sources: Sequence[Tensor], read: Sequence[Tensor], copies: Sequence[Tensor]
) -> Tensor:
    """A term whose gradient is the adversary's turned round, of each text as long as the task's own at most.

    Without that bound the adversary, whose weights grow, soon outweighs the task, and all answers become alike.

    Args:
        own: The task's loss.
        wrong: The adversary's loss.
        sources: The last states and the logits, as the task's loss has them.
        read: What the adversary reads of each.
        copies: The same, as its loss has them.
    """
    import torch

    gradients = torch.autograd.grad(wrong, list(copies), retain_graph=True)
    total = own.new_zeros(())
    for source, values, gradient in zip(sources, read, gradients, strict=True):
        if not source.requires_grad:
            continue
        (task_gradient,) = torch.autograd.grad(own, source, retain_graph=True)
        most = task_gradient.float().flatten(1).norm(dim=1, keepdim=True)
        share = (most / gradient.norm(dim=1, keepdim=True).clamp(min=1e-12)).clamp(max=1.0)
        total = total - (values * (gradient * share)).sum()
    return total


def _mean(states: Tensor, mask: Tensor) -> Tensor:
    """The mean of the states of each text's tokens; virtual tokens before the text are left out."""
    weights = mask.unsqueeze(-1).float()
    return (states[:, -mask.shape[1] :].float() * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)


@contextlib.contextmanager
def _last_states(model: nn.Module) -> Iterator[Callable[[], Tensor]]:
    """While it lasts, the states of the model's last layer are kept; what is given then is them.

    Where a classifier computes the last layer for the first token alone, as its head needs no other, it is one state.
    """
    outputs: list[Any] = []

    def states() -> Tensor:
        found: Tensor | None = getattr(outputs[-1], "last_hidden_state", None) if outputs else None
        if found is None:
            raise UnsupportedError(
                "the model does not give the states of its last layer, which debiasing reads",
                where="training.regularizers",
            )
        return found

    wrapped: Any = model
    whole = wrapped.get_base_model() if hasattr(wrapped, "get_base_model") else wrapped
    hook = whole.base_model.register_forward_hook(lambda _module, _arguments, output: outputs.append(output))
    try:
        yield states
    finally:
        hook.remove()

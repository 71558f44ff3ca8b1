"""What methods and regularisers can do in a training step: one base of both.

The loop has a list of hooks, the method's first. After ``begin`` it calls them at fixed places of each step:

1. ``around_backward`` of each batch. The first hook is the outermost, behind those that are ``outermost`` wherever they
   stand: its ``backward`` calls the next one.
2. ``penalty``, once a step, of the weights as they are: with the backward pass of the step's last batch, or behind all
   that hooks do around that.
3. Clipping and the optimizer's step, then ``after_step``, then the gradients are cleared.
4. ``after_evaluation`` where the step is evaluated, and ``weights_at_end`` once after the last.

A step that runs out of memory is computed again with smaller batches. So ``around_backward`` leaves nothing behind but
gradients; what a hook wants to remember, it notes in ``after_step``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from peftlab.core.config import RegisteredConfig
from peftlab.core.record import Guard

if TYPE_CHECKING:
    from torch import Tensor, nn

    from peftlab.core.method import MethodContext
    from peftlab.core.past import Past
    from peftlab.core.task import Task

LossFunction = Callable[[Any, Mapping[str, "Tensor"]], "Tensor"]
"""From a model and a batch the *sum* of the loss over the batch's terms, as ``Task.training_loss`` gives it."""


ScoreOf = Callable[[Mapping[str, "Tensor"]], float]
"""From values of trained parameters, by name, the score on the validation split; higher is better."""


def below(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The part of a state whose names begin with a prefix, by the rest of the names."""
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


class TextPairs(Protocol):
    """Texts without labels, each with a changed copy of it (``data.augmentation`` with ``rows: unlabeled``)."""

    def draw(self, count: int) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor]]:
        """A batch of texts and the batch of their copies, in the same order; drawn from torch's generator."""


class TrainingRows(Protocol):
    """The training split, for a hook that looks at it before the first step."""

    def read(self, model: nn.Module, count: int) -> Iterator[Mapping[str, Tensor]]:
        """Let a model read rows, a batch at a time, in eval mode and without gradients.

        Args:
            model: On its device.
            count: How many rows, drawn by the seed; all where there are fewer.

        Returns:
            Each batch, once the model has computed its logits.
        """

    def learn(self, model: nn.Module, count: int) -> Iterator[Mapping[str, Tensor]]:
        """Let gradients of the loss flow through a model, as ``read`` does; no parameter keeps one.

        Returns:
            Each batch, once the backward pass of its loss is done.

        Raises:
            UnsupportedError: The loss is of what the model writes, and not of the rows alone.
        """


@dataclass(frozen=True)
class Backward:
    """A forward and backward pass of one batch, which can be called as often as a hook wants.

    Args:
        task: As the run trains it; it computes logits and the loss.
        loss: What is computed where a call names no other loss.
        weight: The gradients are multiplied by it.
        run: The pass itself, or the next hook's.
    """

    task: Task
    loss: LossFunction
    weight: float
    run: Callable[[LossFunction, float], Tensor]

    def __call__(self, loss: LossFunction | None = None, *, weight: float = 1.0) -> Tensor:
        """Compute a loss, and add its gradients to those that are there.

        Args:
            loss: Another one than ``self.loss``; it may build on that.
            weight: Of these gradients.

        Returns:
            The loss of the batch over all terms of the step, a scalar without a graph, not weighted.
        """
        return self.run(loss or self.loss, self.weight * weight)


class TrainingHooks(RegisteredConfig):
    """What the training loop calls. Every hook may be left out."""

    replayable: ClassVar[bool] = False
    """Whether ``begin``, ``after_step`` and ``penalty`` change what a forward pass computes by the values of tensors
    alone, where they are. Then the pass may be recorded once and replayed (``training.cuda_graphs``); hooks without
    these three need not say it."""
    outermost: ClassVar[bool] = False
    """Whether its ``around_backward`` goes around that of others, whatever their order. What it draws is then the same
    in all passes over a batch, such as those of adversarial training."""
    needs_unlabeled: ClassVar[bool] = False
    """Whether it learns from texts without labels and changed copies of them: then ``take_pairs`` is called."""
    needs_rows: ClassVar[bool] = False
    """Whether it looks at training rows before the first step: then ``take_rows`` is called."""

    def begin(self, model: nn.Module, context: MethodContext) -> None:
        """Called once, with the wrapped model before its first step; a resumed run then restores the state."""

    def take_pairs(self, pairs: TextPairs) -> None:
        """Called once, after ``begin``, where ``needs_unlabeled`` says so."""

    def take_rows(self, model: nn.Module, rows: TrainingRows) -> None:
        """Called once, after its ``begin`` and before that of later hooks, where ``needs_rows`` says so.

        In one process: others might see other bits. A resumed run might too: where there is a ``state``, ``restore`` is
        called instead.
        """

    def remember(self, model: nn.Module, past: Past) -> Mapping[str, Tensor]:
        """Called after ``begin`` where the run goes on from an earlier one, whose weights the model has.

        Returns:
            What is kept in the run's folder, for this hook of a run that goes on from this one.
        """
        return {}

    def rate_factors(self, model: nn.Module) -> Mapping[str, float]:
        """What the learning rate of a trained parameter is multiplied by, by name; 1 where it is not named.

        Raises:
            UnsupportedError: The model has nothing that it could be done with.
        """
        return {}

    def training_task(self, task: Task) -> Task:
        """The task as the run trains it, such as one with another loss; evaluation keeps to the recipe's."""
        return task

    def around_backward(self, backward: Backward, model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """Compute the gradients of one batch: call ``backward`` once, or as often as it takes.

        Args:
            backward: Adds the gradients of a batch to those that are there.
            model: In training mode.
            batch: On the model's device.

        Returns:
            The loss that is logged and watched: what one call of ``backward`` returned.
        """
        return backward()

    def penalty(self, model: nn.Module) -> Tensor | None:
        """A scalar that is added to the loss of a step while training, and only then."""
        return None

    def after_step(self, model: nn.Module, step: int) -> None:
        """Called after each optimizer step (from 1), before the gradients are cleared."""

    def state(self, model: nn.Module) -> Mapping[str, Tensor]:
        """What must be found again when a run is resumed, beside parameters, optimizer and random generators."""
        return {}

    def restore(self, model: nn.Module, state: Mapping[str, Tensor]) -> None:
        """Take up what ``state`` gave, be it from the beginning or from any later step."""

    def weights_to_keep(self, model: nn.Module) -> Mapping[str, Tensor]:
        """Values of trained parameters, by name, that evaluation and artifact take instead of the last ones."""
        return {}

    def after_evaluation(self, model: nn.Module, step: int, score: float) -> None:
        """Called after each evaluation on the validation split.

        Args:
            model: With the weights that were evaluated.
            step: After which it was.
            score: The metric that chooses, turned so that higher is better.
        """

    def weights_at_end(self, model: nn.Module, score_of: ScoreOf) -> Mapping[str, Tensor]:
        """Values of trained parameters, by name, that the run leaves instead of its best ones.

        Called once after the last step, where there is a validation split. ``model`` has the best weights, and the hook
        its own state of the last step: other hooks have that of the best.

        Args:
            model: As the run would leave it.
            score_of: The score, as above, of other values of the trained parameters.
        """
        return {}

    def notices(self) -> Mapping[str, str]:
        """What a person should know when training is over: sentences by name, which the record keeps."""
        return {}

    def can_be_best(self, model: nn.Module, step: int) -> bool:
        """Whether the model after this step may be what the run leaves; after the last step it always may."""
        return True

    def may_end_unchanged(self, name: str, parameter: Tensor) -> bool:
        """Whether a trained tensor may end where it began, as a matrix does whose every rank AdaLoRA has pruned."""
        return False

    def decays(self, name: str, parameter: Tensor) -> bool:
        """Whether weight decay may fall on a trained parameter; it does where every hook says so."""
        return True

    def guards(self, model: nn.Module, context: MethodContext) -> Mapping[str, Guard]:
        """Checks of the trained model that only this hook needs; ``guard_names`` lists their names."""
        return {}

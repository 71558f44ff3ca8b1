"""Training rows that hooks look at before the first step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from peftlab.core.errors import UnsupportedError
from peftlab.core.generators import kept_generators
from peftlab.core.in_mode import in_mode
from peftlab.core.splits import Example
from peftlab.core.task import Task
from peftlab.training.evaluation import run_on_device, to_device
from peftlab.training.roll_outs import rolls_out

MOST_AT_ONCE = 16


class EncodedRows:
    """See :class:`peftlab.core.hooks.TrainingRows`.

    Args:
        task: Makes the batches, and computes logits.
        examples: Of the training split.
        pad_token_id: For padding.
        device: Where batches go.
        seed: Draws the rows.
        at_once: Examples of a batch: no more than training computes at once, since memory was planned for that.
        autocast_dtype: Type to compute in; None: the weights' own.
    """

    def __init__(
        self,
        task: Task,
        examples: Sequence[Example],
        pad_token_id: int,
        device: torch.device,
        *,
        seed: int,
        at_once: int = MOST_AT_ONCE,
        autocast_dtype: torch.dtype | None = None,
    ) -> None:
        self._task, self._examples, self._pad, self._device, self._seed = task, examples, pad_token_id, device, seed
        self._at_once, self._autocast_dtype = min(at_once, MOST_AT_ONCE), autocast_dtype

    def read(self, model: nn.Module, count: int) -> Iterator[Mapping[str, Tensor]]:
        """Batches of rows that the model has read."""
        # The loss of a language model never has all logits at once.
        what = self._task.logits if rolls_out(self._task) else self._task.training_loss
        for batch in self._batches(model, count, training=False):
            with torch.no_grad():
                self._compute(what, model, batch)
            yield batch

    def learn(self, model: nn.Module, count: int) -> Iterator[Mapping[str, Tensor]]:
        """Batches of rows whose loss has been differentiated, as a step of training would.

        Raises:
            UnsupportedError: The task's loss needs what the model writes.
        """
        if rolls_out(self._task):
            raise UnsupportedError(
                f"{self._task.registered_name} has no loss before the model has written something, and the method "
                "begins with the gradient of one",
                where="method.type",
                hint="Choose lora.",
            )
        with kept_generators():  # for dropout: what is drawn later stays as it is
            torch.manual_seed(self._seed)
            for batch in self._batches(model, count, training=True):
                with torch.enable_grad():
                    loss = self._compute(self._task.training_loss, model, batch)
                    trained = [each for each in model.parameters() if each.requires_grad]
                    torch.autograd.grad(loss, trained, allow_unused=True)  # leaves nothing in ``grad``
                yield batch

    def _compute(self, what: Callable[..., Tensor], model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        return run_on_device(what, model, batch, device=self._device, autocast_dtype=self._autocast_dtype)

    def _batches(self, model: nn.Module, count: int, *, training: bool) -> Iterator[dict[str, Tensor]]:
        """Batches of drawn rows; the model is in training or eval mode as long as they last."""
        with in_mode(model, training=training):
            for examples in self._drawn(count):
                yield to_device(self._made(examples), self._device)

    def _made(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        """A batch."""
        return self._task.collate(examples, self._pad)

    def _drawn(self, count: int) -> list[list[Example]]:
        """The rows, in so many as are computed at once."""
        generator = torch.Generator().manual_seed(self._seed)
        drawn = torch.randperm(len(self._examples), generator=generator)[:count].tolist()
        return [
            [self._examples[at] for at in drawn[start : start + self._at_once]]
            for start in range(0, len(drawn), self._at_once)
        ]

"""The output of the token embeddings: its gradient, and what is added to it.

Under adapters the embedding's weights are frozen, and are left alone here: what is perturbed is what they put out.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

DEFAULT_SHARE = 0.1
"""Of the mean length of a token's embedding: how far a text is moved where a recipe names no length."""


@contextlib.contextmanager
def changed_embeddings(model: Any, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Change what the token embeddings put out (batch × length × size), as long as the context lasts."""
    embeddings: nn.Module = model.get_input_embeddings()
    handle = embeddings.register_forward_hook(lambda _module, _inputs, output: change(output))
    try:
        yield
    finally:
        handle.remove()


@dataclass
class Probe:
    """Adds something to the embeddings' output, and learns the loss's gradient by it.

    Args:
        shift: What is added, batch × length × size; None: nothing.
    """

    shift: Tensor | None = None
    _added: Tensor | None = field(default=None, init=False)
    _output: Tensor | None = field(default=None, init=False)

    def __call__(self, output: Tensor) -> Tensor:
        """The output with the shift."""
        import torch

        shift = torch.zeros_like(output) if self.shift is None else self.shift.detach()
        self._added, self._output = shift.requires_grad_(), output.detach()
        return output + self._added

    @property
    def gradient(self) -> Tensor:
        """By the embeddings' output."""
        assert self._added is not None and self._added.grad is not None  # noqa: S101, PT018 - backward has run
        return self._added.grad

    @property
    def output(self) -> Tensor:
        """The embeddings themselves."""
        assert self._output is not None  # noqa: S101 - forward has run
        return self._output


def sum_per_text(values: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
    """The sum of values (batch × length) over each text, at every token of it: batch × length.

    A row is one text; where it holds several, the position ids start anew with each.
    """
    import torch

    if "position_ids" not in batch:
        return values.sum(dim=1, keepdim=True).expand_as(values)
    text = (batch["position_ids"] == 0).cumsum(dim=1)
    sums = torch.zeros(values.shape[0], values.shape[1] + 1, device=values.device, dtype=values.dtype)
    return sums.scatter_add(1, text, values).gather(1, text)


def length_per_text(states: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
    """The Euclidean norm of each text's states (batch × length × size), at every token of it: batch × length × 1."""
    return sum_per_text(states.float().square().sum(dim=-1), batch).sqrt()[..., None]


def along_gradient(probe: Probe, batch: Mapping[str, Tensor], length: float | None) -> Tensor:
    """The step of a given length along the gradient, for each text: ε g / ‖g‖.

    Args:
        probe: After a backward pass.
        batch: Of that pass.
        length: ε; None: a share of the text's own token embeddings.
    """
    import torch

    norm = length_per_text(probe.gradient, batch).clamp_min(torch.finfo(torch.float32).tiny)
    step: Tensor = probe.gradient.float() / norm * (own_length(probe, batch) if length is None else length)
    return step.to(probe.output.dtype)


def own_length(probe: Probe, batch: Mapping[str, Tensor]) -> Tensor:
    """A share of the root mean square of the lengths of each text's token embeddings: batch × length × 1."""
    mask = batch["attention_mask"].float()
    squares = probe.output.float().square().sum(dim=-1) * mask
    mean = sum_per_text(squares, batch) / sum_per_text(mask, batch).clamp_min(1)
    return DEFAULT_SHARE * mean.sqrt()[..., None]

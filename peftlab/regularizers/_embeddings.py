"""The output of the token embeddings: its gradient, and what is added to it.

Under adapters the embedding's weights are frozen, and are left alone here: what is perturbed is what they put out.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, PositiveFloat

from peftlab.core.input_embeddings import input_embeddings

if TYPE_CHECKING:
    from torch import Tensor, nn

DEFAULT_SHARE = 0.1
"""Of the length of a token's embedding: how far a text is moved where a recipe names no length."""
Epsilon = Annotated[
    PositiveFloat | None,
    Field(
        description="How far a text's embeddings move in all, at most; null: a tenth of the length of one token's "
        "embedding."
    ),
]
"""A regulariser's key: a length, or null for ``DEFAULT_SHARE``."""


@contextlib.contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """No parameter gets a gradient, as long as the context lasts: a pass then only tells that of the embeddings."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)


@contextlib.contextmanager
def changed_embeddings(model: Any, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Change what the token embeddings put out (batch × length × size), as long as the context lasts.

    Of an encoder–decoder it is what the encoder reads: each of its two parts has a module of its own for the same rows.
    """
    apart = getattr(getattr(model, "config", None), "is_encoder_decoder", False)
    embeddings: nn.Module = input_embeddings(model.get_encoder() if apart else model)
    handle = embeddings.register_forward_hook(lambda _module, _inputs, output: change(output))
    try:
        yield
    finally:
        handle.remove()


class Probe:
    """Adds shifts to the embeddings' output, and learns the loss's gradient by them.

    A model may call its embeddings several times, for a prompt and for an answer: each call has a shift of its own.

    Args:
        shifts: What is added in each call, batch × length × size, or what makes it of the output; None: nothing.
        learns: Whether the gradient by the shifts is wanted; it takes the backward pass down to the embeddings.
    """

    def __init__(self, shifts: list[Tensor] | Callable[[Tensor], Tensor] | None = None, *, learns: bool = True) -> None:
        self.outputs: list[Tensor] = []
        """The embeddings themselves, without a graph."""
        self.shifts: list[Tensor] = []
        """What was added; after a backward pass each has its gradient."""
        self._given, self._learns = shifts, learns

    def __call__(self, output: Tensor) -> Tensor:
        """The output with its shift."""
        import torch

        if self._given is None:
            shift = torch.zeros_like(output)
        elif callable(self._given):
            shift = self._given(output.detach())
        else:
            shift = self._given[len(self.shifts)]
        self.outputs.append(output.detach())
        self.shifts.append(shift.detach().requires_grad_(self._learns))
        return output + self.shifts[-1]

    def steps(self, batch: Mapping[str, Tensor], length: float | None) -> list[Tensor]:
        """For each call a step along the gradient, of one length for each text: ε g / ‖g‖.

        Args:
            batch: Of the pass.
            length: ε; None: a share of the length of the text's own token embeddings.
        """
        steps = []
        for shift, output in zip(self.shifts, self.outputs, strict=True):
            gradient: Any = shift.grad
            # Scaled for float16 it may overflow: the step is skipped then, but its loss must stay a number.
            gradient = gradient.float().nan_to_num_(nan=0.0, posinf=0.0, neginf=0.0)
            own = default_length(output, batch) if length is None else length
            steps.append((gradient / length_of_texts(gradient, batch) * own).to(output.dtype))
        return steps

    def moved(self, batch: Mapping[str, Tensor], length: float | None, share: float) -> list[Tensor]:
        """The shifts after a share of such a step; where a text's is longer than ε then, it is shortened to it."""
        found = []
        for shift, step, output in zip(self.shifts, self.steps(batch, length), self.outputs, strict=True):
            there = shift.detach().float() + share * step
            own = default_length(output, batch) if length is None else length
            found.append((there * (own / length_of_texts(there, batch)).clamp_max(1.0)).to(output.dtype))
        return found


def sum_over_texts(values: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
    """The sum of values (batch × length) over each text, at every token of it: batch × length.

    A row is one text; where it holds several, the position ids start anew with each.
    """
    import torch

    positions = batch.get("position_ids")
    if positions is None or positions.shape != values.shape:
        return values.sum(dim=1, keepdim=True).expand_as(values)
    text = (positions == 0).cumsum(dim=1)
    sums = torch.zeros(values.shape[0], values.shape[1] + 1, device=values.device, dtype=values.dtype)
    return sums.scatter_add(1, text, values).gather(1, text)


def length_of_texts(states: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
    """The Euclidean norm of each text's states (batch × length × size), at each of its tokens; never quite 0."""
    import torch

    squares = states.float().square().sum(dim=-1)
    return sum_over_texts(squares, batch).sqrt()[..., None].clamp_min(torch.finfo(torch.float32).tiny)


def tokens_of_texts(states: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
    """How many tokens each text has, at each of its tokens: batch × length × 1."""
    return sum_over_texts(_mask(states, batch), batch)[..., None].clamp_min(1)


def default_length(output: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
    """A share of the root mean square of the lengths of each text's token embeddings: batch × length × 1."""
    squares = output.float().square().sum(dim=-1) * _mask(output, batch)
    mean = sum_over_texts(squares, batch)[..., None] / tokens_of_texts(output, batch)
    return DEFAULT_SHARE * mean.sqrt()


def small_noise(output: Tensor, batch: Mapping[str, Tensor], length: float | None) -> Tensor:
    """Uniform noise; that of a text of L tokens of size d is ε / √(L d) at most in each number."""
    import torch

    own = default_length(output, batch) if length is None else length
    largest = own / (tokens_of_texts(output, batch) * output.shape[-1]).sqrt()
    return (2 * torch.rand_like(output) - 1) * (largest * _mask(output, batch)[..., None]).to(output.dtype)


def _mask(states: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
    """1 for a token, 0 for padding: batch × length."""
    import torch

    mask = batch.get("attention_mask")
    if mask is None or mask.shape != states.shape[:2]:
        return torch.ones(states.shape[:2], device=states.device)
    return mask.float()

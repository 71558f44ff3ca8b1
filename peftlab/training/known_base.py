"""A stand-in for a frozen base: what it makes of each example is known, and is looked up by the example's row."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils.generic import ModelOutput

Reading = Literal["first", "last", "mean"]
"""What a head reads of a text's states: the first token's, the last one's, or their mean."""


class KnownBase(nn.Module):
    """Gives for the numbers of rows what a base has made of the examples in them.

    It holds its vectors as plain tensors, and so has no parameters and no state.

    Args:
        kind: The class of the base's outputs.
        states: One state an example, rows × hidden; None where the base gives none by token or patch.
        pooled: What the base's own pooler gives, rows × …; None: it has none.
    """

    def __init__(self, kind: type[ModelOutput], states: Tensor | None, pooled: Tensor | None) -> None:
        super().__init__()
        self.kind, self.states, self.pooled = kind, states, pooled

    def forward(self, *arguments: Tensor, **keywords: Any) -> ModelOutput:
        """Outputs of a base, as if every example had one token.

        Args:
            *arguments: ``input_ids`` or ``pixel_values`` first; all that they hold is the row's number.
            **keywords: The same by name; what else a base takes is not looked at.
        """
        given = arguments[0] if arguments else keywords.get("input_ids")
        rows = (keywords["pixel_values"] if given is None else given).flatten(1)[:, 0].long()
        values: dict[str, Tensor] = {}
        if self.states is not None:
            values["last_hidden_state"] = self.states[rows][:, None]
        if self.pooled is not None:
            values["pooler_output"] = self.pooled[rows]
        return self.kind(**values)

    @property
    def bytes(self) -> int:
        """What its vectors take."""
        return sum(each.numel() * each.element_size() for each in (self.states, self.pooled) if each is not None)

    def negated(self) -> KnownBase:
        """The same with every vector's sign changed."""
        return KnownBase(self.kind, *(None if each is None else -each for each in (self.states, self.pooled)))


def joined(parts: Sequence[KnownBase], order: Sequence[int]) -> KnownBase:
    """One of several.

    Args:
        parts: Whose rows follow one another.
        order: The number of each row, every one once.
    """
    places = torch.tensor(order).argsort()

    def whole(tensors: Sequence[Tensor | None]) -> Tensor | None:
        given = [each for each in tensors if each is not None]
        return torch.cat(given)[places.to(given[0].device)] if given else None

    return KnownBase(parts[0].kind, whole([part.states for part in parts]), whole([part.pooled for part in parts]))


def base_of(model: nn.Module) -> nn.Module | None:
    """The part of a transformers model before its head; None where there is none that could be replaced."""
    if not isinstance(model, PreTrainedModel):
        return None
    base: nn.Module | None = model._modules.get(model.base_model_prefix)
    return base


@contextlib.contextmanager
def in_place_of_base(model: Any, known: KnownBase) -> Iterator[None]:
    """The model with a stand-in for its base, as long as the context lasts."""
    name, own = model.base_model_prefix, model.base_model
    model._modules[name] = known.train(own.training)
    try:
        yield
    finally:
        model._modules[name] = own.train(model.training)


@contextlib.contextmanager
def outputs_of(base: nn.Module) -> Iterator[list[Any]]:
    """What a base gives in each forward pass, as long as the context lasts."""
    found: list[Any] = []
    handle = base.register_forward_hook(lambda _module, _inputs, output: found.append(output))
    try:
        yield found
    finally:
        handle.remove()


def vectors_of(output: Any, batch: Mapping[str, Tensor], reading: Reading) -> KnownBase:
    """What a head reads of a base's outputs on a batch.

    Args:
        output: Of transformers' kind, with names.
        batch: What the base was given; padded on the right where it has an ``attention_mask``.
        reading: Which states.
    """
    states, mask = output.get("last_hidden_state"), batch.get("attention_mask")
    by_place = states is not None and states.ndim == 3  # else maps of an image, of which the pooler makes one vector
    return KnownBase(type(output), _one_of(states, mask, reading) if by_place else None, output.get("pooler_output"))


def _one_of(states: Tensor, mask: Tensor | None, reading: Reading) -> Tensor:
    if reading == "first":
        return states[:, 0].clone()
    if mask is None:
        return states.mean(dim=1)
    if reading == "last":
        return states[torch.arange(len(states), device=states.device), mask.sum(dim=1).to(states.device) - 1]
    if states.shape[1] != mask.shape[1]:
        return states[:, 0].clone()  # the base has computed first tokens alone
    weights = mask.unsqueeze(-1).to(states)
    return (states * weights).sum(dim=1) / weights.sum(dim=1)

"""Embeddings of added tokens beside those of a frozen base.

A method that freezes the base freezes its embeddings too. So the rows of added tokens stand beside them, in a small
module of their own that counts as new, like a task's head: it trains, and is saved with the adapter. Hooks put its
rows into the embeddings' output, and into the logits of a language model. :func:`fold_rows` puts them into the base's
own matrices, for plain transformers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from peftlab.core.input_embeddings import input_embeddings

ADDED_ROWS = "added_rows"
"""The name of the module, below the embeddings or the output layer."""


class AddedRows(nn.Module):
    """The rows of some tokens.

    Args:
        ids: Of the tokens.
        weight: Their rows, tokens × size.
    """

    def __init__(self, ids: Sequence[int], weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.detach().clone())
        self.ids: Tensor
        self.register_buffer("ids", torch.tensor(list(ids), device=weight.device), persistent=False)

    def forward(self, tokens: Tensor, output: Tensor, *, scale: Any = None, bias: Tensor | None = None) -> Tensor:
        """The output with the rows in it.

        Args:
            tokens: Token ids (of whole numbers), or the hidden states that logits are computed from.
            output: Embeddings of the ids, or the logits.
            scale: By which the model multiplies its embeddings.
            bias: Of the logits.
        """
        if tokens.is_floating_point():
            logits = nn.functional.linear(tokens.to(self.weight.dtype), self.weight)
            if bias is not None:
                logits = logits + bias[self.ids]
            return output.index_copy(-1, self.ids, logits.to(output.dtype))
        same = tokens.unsqueeze(-1) == self.ids
        rows = self.weight[same.int().argmax(dim=-1)]
        rows = (rows if scale is None else rows * scale).to(output.dtype)
        return torch.where(same.any(dim=-1, keepdim=True), rows, output)


def set_rows_apart(model: Any, ids: Sequence[int], padding: int | None = None) -> tuple[str, ...]:
    """Put the rows of some tokens into modules of their own, in float32.

    Args:
        model: The base, with its head.
        ids: Of the tokens.
        padding: The padding token: nobody reads it, so only a language model's logits have a row to train for it.

    Returns:
        The modules' full names.
    """
    if not ids:
        return ()
    embedding, *output = embedding_layers(model)
    is_tied = any(layer.weight is embedding.weight for layer in output)
    read = [token for token in ids if token != padding or is_tied]
    if read:
        _set_apart(embedding, read)
        embedding.rows_hook = embedding.register_forward_hook(_into_embeddings)
    for layer in output if ids else []:
        if not is_tied:
            _set_apart(layer, ids)
        layer.rows_hook = layer.register_forward_hook(_IntoLogits(embedding if is_tied else layer))
    return tuple(name for name, module in model.named_modules() if isinstance(module, AddedRows))


def _set_apart(layer: Any, ids: Sequence[int]) -> None:
    layer.add_module(ADDED_ROWS, AddedRows(ids, layer.weight[list(ids)].float()))


def has_rows_apart(layer: Any) -> bool:
    """Whether an output layer's matrix is not all that its logits come from."""
    return hasattr(layer, "rows_hook")


def fold_rows(model: Any) -> None:
    """Put rows that stand apart into the embeddings' own matrices; without any, nothing happens."""
    with torch.no_grad():
        for layer in embedding_layers(model):
            if ADDED_ROWS in dict(layer.named_children()):
                layer.weight[layer.added_rows.ids] = layer.added_rows.weight.to(layer.weight)
    drop_rows(model)


def drop_rows(model: Any) -> None:
    """Take rows that stand apart away again: something else brings them."""
    for layer in embedding_layers(model):
        if has_rows_apart(layer):
            layer.rows_hook.remove()
            del layer.rows_hook
        if ADDED_ROWS in dict(layer.named_children()):
            del layer.added_rows


class _IntoLogits:
    """Puts the rows of a layer into the logits of an output layer."""

    def __init__(self, owner: nn.Module) -> None:
        self._owner = owner

    def __call__(self, layer: Any, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        rows: Any = self._owner.get_submodule(ADDED_ROWS)
        changed: Tensor = rows(inputs[0], output, bias=layer.bias)
        return changed


def _into_embeddings(layer: Any, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    changed: Tensor = layer.added_rows(inputs[0], output, scale=getattr(layer, "embed_scale", None))
    return changed


def embedding_layers(model: Any) -> list[Any]:
    """The embeddings, and the output layer of a language model."""
    output = model.get_output_embeddings()
    return [input_embeddings(model), *([] if output is None else [output])]

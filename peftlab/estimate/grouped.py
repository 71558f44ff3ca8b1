"""A mixture's products on shapes: torch knows the shapes of grouped products in bfloat16 alone."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


@contextlib.contextmanager
def rows_by_one_expert() -> Iterator[None]:
    """Let transformers multiply every row by the first expert's matrix: the same shapes, and as many products."""
    from transformers.integrations import moe

    own = moe._grouped_mm
    moe._grouped_mm = _by_the_first
    try:
        yield
    finally:
        moe._grouped_mm = own


def _by_the_first(input: Tensor, weight: Tensor, offs: Tensor) -> Tensor:  # noqa: A002 - transformers' names
    rows = input.to(weight.dtype)
    return cast("Tensor", _ByTheFirst.apply(rows, weight))  # type: ignore[no-untyped-call]


class _ByTheFirst(torch.autograd.Function):
    """Rows × inputs by experts × inputs × outputs, to rows × outputs."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, matrices: Tensor) -> Tensor:
        ctx.save_for_backward(rows if ctx.needs_input_grad[1] else None, matrices)
        return rows @ matrices[0]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None]:
        (gradient,) = gradients
        rows, matrices = ctx.saved_tensors
        of_rows = gradient @ matrices[0].mT if ctx.needs_input_grad[0] else None
        of_matrices = None
        if rows is not None:
            of_matrices = torch.empty_like(matrices)
            of_matrices[0] = rows.mT @ gradient
        return of_rows, of_matrices

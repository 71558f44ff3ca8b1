"""Multinomial logistic regression on vectors, as scikit-learn's with its default settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def fit_logistic(vectors: Tensor, labels: Tensor, classes: int, *, strength: float) -> tuple[Tensor, Tensor]:
    """The weights that minimise the summed cross-entropy plus half the squared norm of the weights over ``strength``.

    Vectors are divided by their mean length before, so that ``strength`` means the same whatever the model's scale.

    Args:
        vectors: Examples × size.
        labels: Classes by number (examples).
        classes: How many there are.
        strength: The larger it is, the less the weights are held back; ``C`` of scikit-learn.

    Returns:
        Weights (classes × size) and bias (classes), float32, for the vectors as they were given.
    """
    import torch
    from torch.nn import functional

    with torch.inference_mode(False), torch.enable_grad():
        rows, labels = vectors.double().clone(), labels.clone()  # what inference mode made cannot be differentiated
        scale = rows.norm(dim=1).mean().clamp(min=1e-12)
        rows = rows / scale
        weights = torch.zeros(classes, rows.shape[1], dtype=torch.float64, requires_grad=True)
        bias = torch.zeros(classes, dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.LBFGS(
            [weights, bias], max_iter=200, tolerance_grad=1e-6, tolerance_change=1e-10, line_search_fn="strong_wolfe"
        )

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = functional.cross_entropy(rows @ weights.T + bias, labels, reduction="sum")
            loss = loss + weights.square().sum() / (2 * strength)
            loss.backward()  # type: ignore[no-untyped-call]
            return loss

        optimizer.step(closure)  # type: ignore[no-untyped-call]
    return (weights.detach() / scale).float(), bias.detach().float()

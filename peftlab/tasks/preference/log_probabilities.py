"""Log-probabilities of whole responses: sums over the tokens that carry a label."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from peftlab.tasks.language.vocabulary_head import label_losses

if TYPE_CHECKING:
    from torch import Tensor, nn


def response_log_probabilities(model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
    """The log-probability of each row's response (rows), in nats."""
    return -row_sums(label_losses(model, batch), batch)


def row_sums(values: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
    """Sums over each row's labels."""
    return values.new_zeros(len(batch["input_ids"])).index_add(0, batch["label_rows"], values)

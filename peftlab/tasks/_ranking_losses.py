"""Losses that order the documents of a query, each a sum over the queries of a batch.

All take scores and relevances (documents), which are between 0 and 1 in training, and for each document the number of
its query. Pairwise, queries whose documents are all alike add nothing; listwise, theirs get the same score.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from peftlab.core.products import product

if TYPE_CHECKING:
    from torch import Tensor


def pointwise(scores: Tensor, relevance: Tensor, owners: Tensor) -> Tensor:
    """Binary cross-entropy of each document, the mean over a query's."""
    from torch.nn import functional

    # No document is surer than certain: one of another split can be more relevant than any that was learned from.
    targets = relevance.clamp(max=1)
    each = functional.binary_cross_entropy_with_logits(scores, targets, reduction="none")
    return (each / _same(owners).sum(dim=1)).sum()


def pairwise(scores: Tensor, relevance: Tensor, owners: Tensor) -> Tensor:
    """RankNet: of two documents of a query the better one has the higher score; the mean over a query's pairs.

    Burges et al. 2005, https://doi.org/10.1145/1102351.1102363
    """
    from torch.nn import functional

    same = _same(owners)
    is_better = (same & (relevance[:, None] > relevance[None, :])).float()
    pairs = product(same.float(), is_better.sum(dim=1))  # of its query, for each document
    each = functional.softplus(scores[None, :] - scores[:, None]) * is_better
    return (each.sum(dim=1) / pairs.clamp(min=1)).sum()


def listwise(scores: Tensor, relevance: Tensor, owners: Tensor) -> Tensor:
    """ListNet: cross-entropy of the softmax of a query's scores with its relevances, which are made to add up to 1.

    Cao et al. 2007, https://doi.org/10.1145/1273496.1273513
    """
    import torch

    same = _same(owners)
    of_all = torch.logsumexp(scores[None, :].masked_fill(~same, -torch.inf), dim=1)
    total = product(same.float(), relevance)
    return (relevance / total.clamp(min=1e-6) * (of_all - scores)).sum()


def _same(owners: Tensor) -> Tensor:
    """Whether two documents are of one query (documents × documents)."""
    return owners[:, None] == owners[None, :]


LOSSES: Mapping[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "pointwise": pointwise,
    "pairwise": pairwise,
    "listwise": listwise,
}
"""By the key ``objective``."""

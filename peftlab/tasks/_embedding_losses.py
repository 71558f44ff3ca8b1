"""Losses of embeddings, each a sum over the queries of a batch.

Each has the value of the loss of sentence-transformers that is named, times the number of queries.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from peftlab.core.products import product

if TYPE_CHECKING:
    from torch import Tensor


def goes_with(objective: str, *, mines: bool) -> dict[str, tuple[str, bool]]:
    """The keys that are not always read: with what they go, and whether that is so."""
    readers = {"symmetric": "infonce", "margin": "triplet"}
    found = {key: (f"objective: {reader}", objective == reader) for key, reader in readers.items()}
    return {**found, "mining_margin": ("mined_negatives", mines)}


def info_nce(vectors: Tensor, keys: Tensor, *, temperature: float, symmetric: bool) -> Tensor:
    """InfoNCE with in-batch negatives (``MultipleNegativesRankingLoss``; https://arxiv.org/abs/1807.03748).

    A text that is a document of the query, or of an equal one, anywhere in the batch, is no wrong answer. Nor is the
    query itself, as where paraphrases are paired: it lies nearest whatever is learned. Only as a negative of its own
    row it counts.

    Args:
        vectors: All queries, all documents, then each column of negatives.
        keys: Queries × texts of a row; equal for equal texts.
        temperature: Similarities are divided by it.
        symmetric: The mean with the loss of the documents, which look for their queries.
    """
    import torch
    from torch.nn import functional

    queries, documents = vectors[: len(keys)], vectors[len(keys) :]
    similarities = product(queries, documents.T) / temperature  # queries × (documents, then negatives)
    own = torch.arange(len(keys), device=vectors.device)
    shown = keys[:, 1:].T.flatten()
    same_query = keys[:, 0, None] == keys[None, :, 0]
    is_right = product(same_query.float(), (keys[:, 1, None] == shown[None, :]).float()) > 0
    is_of_row = own[:, None] == torch.arange(len(shown), device=vectors.device) % len(keys)
    is_right |= (keys[:, 0, None] == shown[None, :]) & ~is_of_row
    is_own = functional.one_hot(own, len(shown)).bool()
    similarities = similarities.masked_fill(is_right & ~is_own, -torch.inf)
    loss = functional.cross_entropy(similarities, own, reduction="sum")
    if not symmetric:
        return loss
    backwards = functional.cross_entropy(similarities[:, : len(keys)].T, own, reduction="sum")
    return (loss + backwards) / 2


def triplet(vectors: Tensor, keys: Tensor, *, margin: float) -> Tensor:
    """A document must be nearer than each negative of its row by a margin (``TripletLoss`` with the cosine distance).

    A negative that is the document itself counts nothing.

    Args:
        vectors: All queries, all documents, then each column of negatives.
        keys: Queries × texts of a row; equal for equal texts.
        margin: Of cosines.
    """
    from torch.nn import functional

    sides = functional.normalize(vectors, dim=-1).view(keys.shape[1], len(keys), -1)
    cosines = (sides[0] * sides[1:]).sum(dim=-1)  # documents of a row × queries
    lacking = functional.relu(margin - cosines[0] + cosines[1:])
    return lacking.masked_fill(keys[:, 1] == keys[:, 2:].T, 0).mean(dim=0).sum()


def cosent(vectors: Tensor, scores: Tensor, *, temperature: float) -> Tensor:
    """Of two pairs the one with the higher score must have the higher cosine (``CoSENTLoss``).

    https://kexue.fm/archives/8847

    Args:
        vectors: All first texts, then all second ones.
        scores: One a pair.
        temperature: Cosines are divided by it.
    """
    import torch
    from torch.nn import functional

    first, second = functional.normalize(vectors, dim=-1).view(2, len(scores), -1)
    cosines = (first * second).sum(dim=-1) / temperature
    differences = cosines[:, None] - cosines[None, :]
    differences = differences.masked_fill(scores[:, None] >= scores[None, :], -torch.inf).flatten()
    return torch.logsumexp(torch.cat([differences.new_zeros(1), differences]), dim=0) * len(scores)


def matryoshka(
    loss: Callable[[Tensor], Tensor], vectors: Tensor, dimensions: Sequence[int], *, normalize: bool
) -> Tensor:
    """The mean of a loss over beginnings of the vectors, so that each is a good vector (``MatryoshkaLoss``).

    https://arxiv.org/abs/2205.13147

    Args:
        loss: Of vectors.
        vectors: Whole.
        dimensions: How many numbers of them each time.
        normalize: Whether beginnings get the length 1.
    """
    import torch
    from torch.nn import functional

    losses = []
    for count in dimensions:
        first = vectors[:, :count]
        losses.append(loss(functional.normalize(first, dim=-1) if normalize else first))
    return torch.stack(losses).mean()


def supervised_contrastive(
    vectors: Tensor, labels: Tensor, *, temperature: float, same_text: Tensor | None = None
) -> Tensor:
    """Each text must lie nearer to those of its class than to all others (https://arxiv.org/abs/2004.11362, eq. 2).

    A text that is alone in its class counts nothing. Nor do copies of a text for one another: a copy lies as near as
    can be whatever is learned, and beside it in the denominator all wrong texts weigh next to nothing.

    Args:
        vectors: Of the length 1, texts × size.
        labels: The class of each.
        temperature: Cosines are divided by it.
        same_text: Whether two rows are the same text (texts × texts); None: all differ.
    """
    import torch

    itself = torch.eye(len(vectors), dtype=torch.bool, device=vectors.device)
    itself = itself if same_text is None else itself | same_text
    similarities = product(vectors, vectors.T) / temperature
    # Not by infinity: of a batch of one text nothing would be left, and its gradient would be no number.
    similarities = similarities.masked_fill(itself, torch.finfo(similarities.dtype).min)
    logarithms = similarities - similarities.logsumexp(dim=1, keepdim=True)
    alike = (labels[:, None] == labels[None, :]) & ~itself
    found = logarithms.masked_fill(~alike, 0).sum(dim=1)
    return -(found / alike.sum(dim=1).clamp(min=1)).sum()

"""Vectors of texts and of users: a user is the recent part of what they chose."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from peftlab.applications.recommend.history import Ints
from peftlab.core.errors import UserError

if TYPE_CHECKING:
    from peftlab.inference.tuned_model import TunedModel

AT_ONCE = 2000
Matrix = NDArray[np.float32]


def embed_texts(tuned: TunedModel, texts: Sequence[str]) -> Matrix:
    """A vector of the length 1 for each text.

    Raises:
        UserError: The model embeds no texts.
    """
    from peftlab.core.capabilities import EmbedsText

    task = tuned.task
    if not isinstance(task, EmbedsText):
        raise UserError(
            f"the part `text` is a run of {task.registered_name}, which gives no vectors",
            hint="Use one of text_embedding.",
        )
    parts = []
    for start in range(0, len(texts), AT_ONCE):
        examples = task.embedding_examples(texts[start : start + AT_ONCE], tuned.tokenizer)
        parts.append(np.array([each.prediction for each in tuned.predict(examples)], np.float32))
    return unit(np.concatenate(parts)) if parts else np.empty((0, 0), np.float32)


def unit(vectors: Matrix) -> Matrix:
    """Vectors of the length 1; zeros stay zeros."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    found: Matrix = (vectors / np.maximum(length, 1e-12)).astype(np.float32)
    return found


def recency(count: int, half_life: float) -> Matrix:
    """The weight of each event, the oldest first; the last one weighs 1."""
    found: Matrix = (0.5 ** (np.arange(count)[::-1] / half_life)).astype(np.float32)
    return found


def history_rows(histories: Sequence[Ints], items: int, half_life: float | None = None) -> Any:
    """Users × items, sparse: 1 for each item of a history, or its weight by recency."""
    starts = np.concatenate([[0], np.cumsum([len(each) for each in histories])])
    weights = [np.ones(len(each), np.float32) if half_life is None else recency(len(each), half_life) for each in histories]  # fmt: skip  # noqa: E501
    empty = np.empty(0, np.int64)
    found = scipy.sparse.csr_matrix(
        (np.concatenate([np.empty(0, np.float32), *weights]), np.concatenate([empty, *histories]), starts),
        shape=(len(histories), items),
    )
    found.sum_duplicates()
    return found


def user_vectors(histories: Sequence[Ints], vectors: Matrix, half_life: float) -> Matrix:
    """Users × size: the mean of what each user chose, recent items weighing more; zeros for an empty history."""
    return unit(np.asarray(history_rows(histories, len(vectors), half_life) @ vectors, np.float32))

"""Pairs that nothing can be learned from: a partner that is the same in every row, or the same text on both sides."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from typing import Any

from peftlab.core.amounts import plural
from peftlab.core.errors import DataError
from peftlab.core.splits import Split
from peftlab.core.words import comparable


def refuse_one_value(train: Split, column: str, values: Sequence[Hashable]) -> None:
    """Refuse training rows that are all the same in a column: there is nothing to tell apart.

    Args:
        train: The training rows.
        column: Its name.
        values: Of the rows, as they are compared.

    Raises:
        DataError: They are.
    """
    if len(values) > 1 and len(set(values)) == 1:
        raise DataError(
            f"the column `{column}` holds the same in every training row, so there is nothing to tell apart",
            where=train.source,
            hint="Choose another column, or give rows that differ in it.",
        )


def comparable_texts(values: Iterable[Any]) -> list[str]:
    """Texts as they are compared: those that differ in case or blanks alone are one."""
    return [comparable(str(value)) for value in values]


def why_ranks_say_nothing(queries: Sequence[Hashable], documents: Sequence[Hashable]) -> str | None:
    """Why each query finds its own document first, whatever a model says; None: one has a wrong document beside it.

    Args:
        queries: Of the rows, as they are compared.
        documents: Of the same rows.
    """
    corpus, own = set(documents), defaultdict[Hashable, set[Hashable]](set)
    for query, document in zip(queries, documents, strict=True):
        own[query].add(document)
    # A query's own text is never a wrong document.
    if any(corpus - documents_of - {query} for query, documents_of in own.items()):
        return None
    if len(corpus) == 1:
        return "all of its rows have one and the same document, so each finds its own"
    return "every document belongs to every query, so none is a wrong one"


def about_same_texts(splits: Iterable[Split], query: str, document: str) -> dict[str, str]:
    """Rows whose query and document are one text: whatever the model, each finds the other."""
    count = sum(
        own == other
        for split in splits
        for own, other in zip(*(comparable_texts(split.columns[column]) for column in (query, document)), strict=True)
    )
    if not count:
        return {}
    has = "has" if count == 1 else "have"
    return {
        "pairs_of_one_text": f"{plural(count, 'row')} {has} the same text as query and as document: any model finds "
        "it, so scores are too good"
    }

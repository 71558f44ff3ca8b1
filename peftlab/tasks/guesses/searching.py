"""Queries and documents, and questions with passages."""

from __future__ import annotations

from collections.abc import Sequence

from peftlab.core.task_guess import ColumnFacts, TaskGuess, with_first_texts
from peftlab.tasks.guesses.classes import label_score
from peftlab.tasks.guesses.names import column_called, is_identifier

QUERY_NAMES = ("query", "anchor", "search_query", "question")
DOCUMENT_NAMES = ("document", "positive", "passage", "doc", "pos", "product", "text")
NEGATIVE_NAMES = ("negative", "negatives", "neg", "hard_negative")


def guess_matches(columns: Sequence[ColumnFacts]) -> list[TaskGuess]:
    """Queries, each with a document that answers it."""
    pair = _query_and_document(columns)
    if pair is None:
        return []
    query, document = pair
    keys = {"query": query.name, "document": document.name}
    negative = column_called(_of_texts(columns), *NEGATIVE_NAMES)
    if negative is not None:
        keys["negatives"] = [negative.name]  # type: ignore[assignment]
    reasons = {"query": "a name for what is searched for", "document": "a name for what answers it"}
    return [TaskGuess(keys, 0.9 if negative else 0.8, reasons, (query.name, document.name))]


def guess_ranks(columns: Sequence[ColumnFacts]) -> list[TaskGuess]:
    """Queries, each with several documents of which some answer it."""
    pair = _query_and_document(columns)
    label = column_called(columns, "label", "relevance", "relevant", "score", "rank")
    if pair is None or label is None or pair[0].distinct_share > 0.8 or label_score(label) is None:
        return []
    keys = {"query": pair[0].name, "document": pair[1].name, "label": label.name}
    reasons = {"label": "a query has several documents, and this says which of them answer it"}
    return [TaskGuess(keys, 0.93, reasons, (pair[0].name, pair[1].name))]


def guess_answers(columns: Sequence[ColumnFacts]) -> list[TaskGuess]:
    """Answers to questions, which stand in a passage."""
    question = column_called(columns, "question", "query")
    passage = column_called(columns, "context", "passage", "paragraph", "document")
    answers = column_called(columns, "answers", "answer")
    if question is None or passage is None or answers is None or not _stand_in(passage, answers):
        return []
    keys = {"question": question.name, "passage": passage.name, "answers": answers.name}
    reasons = {"answers": "the answers stand in the passages"}
    return [TaskGuess(keys, 0.97, reasons, (question.name, passage.name), max_length_by_texts=False)]


def _query_and_document(columns: Sequence[ColumnFacts]) -> tuple[ColumnFacts, ColumnFacts] | None:
    texts = _of_texts(columns)
    query = column_called(texts, *QUERY_NAMES)
    document = column_called([column for column in texts if column is not query], *DOCUMENT_NAMES)
    return None if query is None or document is None else (query, document)


def _of_texts(columns: Sequence[ColumnFacts]) -> list[ColumnFacts]:
    found = with_first_texts(columns)
    return [column for column in found if column.kind in ("text", "word") and not is_identifier(column)]


def _stand_in(passage: ColumnFacts, answers: ColumnFacts) -> bool:
    if answers.kind == "mapping":
        return True
    if answers.missing or passage.missing or answers.kind not in ("text", "word", "words"):
        return False
    if passage.kind not in ("text", "word"):
        return False  # such as the number of a document
    rows = list(zip(passage.values, answers.values, strict=True))
    found = sum(any(one in text for one in ([answer] if isinstance(answer, str) else answer)) for text, answer in rows)
    return found >= 0.8 * len(rows)

"""Texts without anything else: a model can learn to write such texts, or to fill gaps in them."""

from __future__ import annotations

from collections.abc import Sequence

from peftlab.core.task_guess import ColumnFacts, TaskGuess
from peftlab.tasks.guesses.classes import why_text
from peftlab.tasks.guesses.names import most_like_text

LEAST_WORDS = 3


def guess_texts_alone(columns: Sequence[ColumnFacts]) -> list[TaskGuess]:
    """The next token of texts."""
    return _texts(columns, sure=0.3, writes=True)


def guess_gaps(columns: Sequence[ColumnFacts]) -> list[TaskGuess]:
    """Words that are hidden in texts."""
    return _texts(columns, sure=0.25, writes=False)


def _texts(columns: Sequence[ColumnFacts], *, sure: float, writes: bool) -> list[TaskGuess]:
    texts = [column for column in most_like_text(columns) if column.mean_words >= LEAST_WORDS]
    if not texts:
        return []
    reasons = {"text": why_text(texts[0])}
    name = texts[0].name
    guess = TaskGuess({"text": name}, sure, reasons, (name,), reads_left_to_right=writes, max_length_by_texts=False)
    return [guess]

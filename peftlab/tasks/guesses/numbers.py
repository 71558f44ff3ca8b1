"""Numbers that texts, or pairs of texts, are to be given."""

from __future__ import annotations

from collections.abc import Sequence

from peftlab.core.task_guess import ColumnFacts, TaskGuess
from peftlab.tasks.guesses.classes import why_text
from peftlab.tasks.guesses.names import NEVER_LABELS, closeness, is_identifier, most_like_text, pairs_of_texts, word_set

NUMBERS = word_set(
    """
    score price rating stars target label y value amount similarity grade points age readability
    difficulty cost relevance salary preis betrag note intensity
    """
)
FEW = 20
"""So many whole numbers are classes rather than amounts."""


def guess_numbers(columns: Sequence[ColumnFacts]) -> list[TaskGuess]:
    """A number for a text, or for a pair of texts."""
    found = []
    texts = most_like_text(columns)[:1]
    for label in columns:
        if label.kind != "number" or is_identifier(label) or (label.is_whole and label.distinct <= FEW):
            continue
        name = closeness(label.name, NUMBERS) - closeness(label.name, NEVER_LABELS)
        # Ids that occur several times are whole numbers too.
        sure = 0.45 + 0.35 * name + 0.02 * label.at - (0.2 if label.is_whole and name <= 0 else 0.0)
        reason = f"numbers with {label.distinct:,} different values"
        for text in texts:
            reasons = {"text": why_text(text), "label": reason}
            found.append(TaskGuess({"text": text.name, "label": label.name}, sure, reasons, (text.name,)))
        for first, second in pairs_of_texts(columns):
            keys = {"text": [first.name, second.name], "label": label.name}
            reasons = {"text": "two columns whose names go together", "label": reason}
            found.append(TaskGuess(keys, sure + 0.15, reasons, (first.name, second.name)))
    return found

"""Tags of words."""

from __future__ import annotations

from collections.abc import Sequence

from peftlab.core.task_guess import ColumnFacts, TaskGuess

MOST_TAGS = 300


def guess_tags(columns: Sequence[ColumnFacts]) -> list[TaskGuess]:
    """A tag for each word: two columns of lists that are equally long in every row, one with few different values."""
    words = [column for column in columns if column.kind == "words"]
    found = []
    for tokens in words:
        for tags in (column for column in columns if column.kind in ("words", "list")):
            if tags is tokens or not _go_together(tokens, tags):
                continue
            names = {str(tag) for row in tags.values for tag in row}
            spoken = {token for row in tokens.values for token in row}
            if len(names) > MOST_TAGS or len(names) >= len(spoken):
                continue
            reasons = {"tokens": "a list of words in each row", "tags": f"as many tags, of {len(names)} kinds"}
            sure = 0.97 if "tag" in tags.name.lower() or "ner" in tags.name.lower() else 0.93
            found.append(TaskGuess({"tokens": tokens.name, "tags": tags.name}, sure, reasons, (tokens.name,)))
    return found


def _go_together(tokens: ColumnFacts, tags: ColumnFacts) -> bool:
    if len(tokens.values) != len(tags.values) or not tokens.values:
        return False
    if not all(isinstance(marks, list | tuple) for marks in tags.values):
        return False
    return all(len(words) == len(marks) for words, marks in zip(tokens.values, tags.values, strict=True))

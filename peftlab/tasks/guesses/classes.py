"""Classes of texts, and of pairs of texts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from peftlab.core.task_guess import ColumnFacts, TaskGuess
from peftlab.tasks.guesses.names import (
    LABELS,
    NEVER_LABELS,
    WEAK_LABELS,
    closeness,
    is_identifier,
    most_like_text,
    pairs_of_texts,
    text_score,
)

MOST_CLASSES = 1000
SEPARATORS = ("|", ";", ",")
UNEVEN = 0.6
"""Where one class has such a share of the rows, accuracy says little."""


def guess_classes(columns: Sequence[ColumnFacts]) -> list[TaskGuess]:
    """One class of a text, or several classes at once."""
    texts = most_like_text(columns)
    found = []
    for label in columns:
        text = next((text for text in texts if text.name != label.name), None)
        if text is None or not could_be_read(text, label):
            continue
        separator = separator_of(label)
        if separator is not None or label.kind == "words":
            found.append(_several_classes(text, label, separator))
        elif (score := label_score(label)) is not None:
            alone = 1.5 if len(columns) == 2 else 0.0  # what else could the table be for?
            found.append(_one_class(text, label, score + alone))
    indicators = _indicators(columns)
    if len(indicators) >= 3 and texts:
        names = [column.name for column in indicators]
        reason = f"{len(names)} columns hold 0 or 1, so each is a class of its own"
        keys = {"text": texts[0].name, "label": names, "multi_label": True}
        found.append(TaskGuess(keys, 0.8, {"label": reason}, texts=(texts[0].name,), labels=tuple(names)))
    return found


def guess_classes_of_pairs(columns: Sequence[ColumnFacts]) -> list[TaskGuess]:
    """The class of a pair of texts."""
    found = []
    for first, second in pairs_of_texts(columns):
        for label in columns:
            score = label_score(label) if label not in (first, second) else None
            if score is None:
                continue
            reasons = {"text": "two columns whose names go together", "label": why_label(label)}
            keys = {"text": [first.name, second.name], "label": label.name}
            guess = TaskGuess(keys, _sure(score) + 0.1, reasons, (first.name, second.name), (label.name,))
            found.append(guess)
    return found


def could_be_read(text: ColumnFacts, label: ColumnFacts) -> bool:
    """Whether a column has more to read than its label has, so that the two are not the wrong way round."""
    return label.kind not in ("text", "word") or text_score(text) > text_score(label) - 3.0


def label_score(label: ColumnFacts) -> float | None:
    """How much a column looks like classes; None where it cannot hold any."""
    if label.kind not in ("word", "number", "text") or is_identifier(label) or len(label.values) < 2:
        return None
    if label.kind == "number" and not label.is_whole:
        return None
    if not 2 <= label.distinct <= MOST_CLASSES or label.mean_words > 6:
        return None
    rows_each = len(label.values) / label.distinct
    if rows_each < 2 or (label.kind == "number" and label.distinct > 200 and not closeness(label.name, LABELS)):
        return None
    score = 3.0 * closeness(label.name, LABELS) + closeness(label.name, WEAK_LABELS)
    score -= 3.0 * closeness(label.name, NEVER_LABELS)
    score += 0.6 if label.distinct <= 20 else 0.3 if label.distinct <= 200 else 0.0
    score += 0.3 * max(label.at, 1.0 - label.at)
    score -= 1.5 * label.missing / max(label.rows, 1)
    if rows_each < 5:
        score -= 1.0
    if label.kind == "number" and label.distinct > 20:
        score -= 1.0
    return score


def separator_of(label: ColumnFacts) -> str | None:
    """What stands between several labels in one string; None where a row has one."""
    if label.kind not in ("word", "text") or not label.values:
        return None
    for mark in SEPARATORS:
        share = sum(mark in value for value in label.values) / len(label.values)
        parts = Counter(part.strip() for value in label.values for part in value.split(mark))
        if share < 0.05 or len(parts) > min(label.distinct, MOST_CLASSES) or len(parts) < 2:
            continue
        short = sum(len(part.split()) <= 3 for part in parts) / len(parts)
        if short > 0.95 and sum(parts.values()) / len(parts) >= 5:
            return mark
    return None


def why_label(label: ColumnFacts) -> str:
    """The reason for a column of classes."""
    named = closeness(label.name, LABELS) or closeness(label.name, WEAK_LABELS)
    count = f"{label.distinct} different values in {len(label.values):,} rows"
    return f"{count}, and a name for a label" if named else count


def why_text(text: ColumnFacts) -> str:
    """The reason for a column of texts."""
    # Rounded down: where rows repeat one another, not 100 % differ.
    return f"{text.mean_words:.0f} words a row on average, {int(100 * text.distinct_share)}% of the rows different"


def _one_class(text: ColumnFacts, label: ColumnFacts, score: float) -> TaskGuess:
    counts = Counter(str(value) for value in label.values)
    uneven = counts.most_common(1)[0][1] / len(label.values) > UNEVEN
    reasons = {"text": why_text(text), "label": why_label(label)}
    return TaskGuess(
        {"text": text.name, "label": label.name},
        _sure(score),
        reasons,
        (text.name,),
        (label.name,),
        metric="macro_f1" if uneven else None,
    )


def _several_classes(text: ColumnFacts, label: ColumnFacts, separator: str | None) -> TaskGuess:
    reason = f"a row can have several, with {separator!r} between them" if separator else "a list of labels in each row"
    keys = {"text": text.name, "label": label.name, "multi_label": True}
    keys |= {"label_separator": separator} if separator not in (None, ",") else {}
    sure = 0.7 + 0.2 * closeness(label.name, LABELS) - 0.4 * closeness(label.name, NEVER_LABELS)
    if separator is None and closeness(label.name, ("tokens", "words", "answers")):
        sure -= 0.5
    return TaskGuess(keys, sure, {"text": why_text(text), "label": reason}, (text.name,), (label.name,))


def _indicators(columns: Sequence[ColumnFacts]) -> list[ColumnFacts]:
    """Columns of 0 and 1, or of true and false."""
    words = {"0", "1", "true", "false", "0.0", "1.0"}
    return [
        column
        for column in columns
        if column.kind in ("number", "word")
        and not column.missing
        and column.distinct == 2
        and {str(value).lower() for value in column.values} <= words
    ]


def _sure(score: float) -> float:
    return min(0.5 + 0.1 * score, 0.88)

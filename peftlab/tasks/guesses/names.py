"""What the names of columns tell of them."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from peftlab.core.task_guess import ColumnFacts


def word_set(text: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(text.split())


TEXTS = word_set(
    """
    text texts sentence review reviews content message msg comment comments body tweet post question
    utterance query description document abstract article title headline story feedback complaint input
    passage string verbatim answer summary snippet transcript texte texto testo tekst nachricht
    kommentar satz kommentare freitext beschreibung 评论 文本 内容 text_body
    """
)
LABELS = word_set(
    """
    label labels class classes category categories sentiment intent intents target topic topics emotion
    emotions polarity rating stars star genre genres spam toxic toxicity gold annotation y tag tags
    coarse labelname verdict etikett klasse kategorie thema etiqueta clase categoria categoría
    sentimiento classe catégorie stimmung bewertung 标签 类别 outcome stance
    """
)
WEAK_LABELS = word_set(
    """
    type kind score department priority fine group status severity aspect domain subject grade quality
    level code queue is has abteilung typ art price relevance similarity
    """
)
NEVER_LABELS = word_set(
    """
    id ids index idx nr no number uuid guid key date time timestamp created updated datetime year month
    day user username name author url link path file filename lang language language split fold batch
    row hash email phone source airline template person worker annotator annotators annotations zip city
    country latitude longitude unnamed reason confidence version
    """
)
PROMPTS = word_set(
    """
    prompt instruction question input query source context mr meaning_representation src article document dialogue
    """
)
RESPONSES = word_set(
    """
    response completion output answer answers target summary highlights ref reference reply tgt text
    translation human_reference
    """
)
ANSWERS_TO_PROMPTS = word_set(
    """
    response completion output answer answers reply
    """
)


def words_of(name: str) -> list[str]:
    """A column's name in words: ``userID`` and ``user_id`` are user and id."""
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name)
    return [word for word in re.split(r"[\W_]+|(?<=\D)(?=\d)", apart.lower()) if word]


def closeness(name: str, known: Collection[str]) -> float:
    """1.0 where the name is one of the known words, 0.6 where it holds one, else 0.0."""
    words = words_of(name)
    whole = "_".join(words)
    if whole in known or (words and all(word in known or word.isdigit() for word in words)):
        return 1.0
    return 0.6 if set(words) & set(known) else 0.0


def named(columns: Sequence[ColumnFacts], known: Collection[str]) -> ColumnFacts | None:
    """The column whose name is closest to one of the words; None where no name is."""
    best = max(columns, key=lambda column: closeness(column.name, known), default=None)
    return best if best is not None and closeness(best.name, known) > 0 else None


def column_called(columns: Sequence[ColumnFacts], *names: str) -> ColumnFacts | None:
    """The column of one of these names, in any case; the first name goes before the others.

    The first item of a list has the name of the list, where no column has it.
    """
    by_name = {"_".join(words_of(column.name)): column for column in columns}
    for column in columns:
        by_name.setdefault("_".join(words_of(column.name.removesuffix(".0"))), column)
    return next((by_name[name] for name in names if name in by_name), None)


def is_identifier(column: ColumnFacts) -> bool:
    """Whether the values look like numbers of rows, keys or links: nothing to read or to learn."""
    if column.kind not in ("word", "number") or len(column.values) < 3:
        return False
    if column.distinct_share <= 0.95:
        return False
    if column.kind == "word":
        return closeness(column.name, TEXTS) < 1.0
    values = [float(value) for value in column.values]
    return column.is_whole and (max(values) - min(values) < 3 * len(values) or closeness(column.name, NEVER_LABELS) > 0)


def most_like_text(columns: Sequence[ColumnFacts]) -> list[ColumnFacts]:
    """Columns that a model could read, the likeliest first."""
    found = [column for column in columns if column.kind in ("text", "word") and not is_identifier(column)]
    found = [column for column in found if column.distinct >= 3 and not closeness(column.name, ("url", "template"))]
    return sorted(found, key=text_score, reverse=True)


def text_score(column: ColumnFacts) -> float:
    """How much a column looks like the one to read."""
    length = min(column.mean_words, 60.0) ** 0.5
    score: float = length + 3.0 * min(column.distinct_share, 1.0) + 3.0 * closeness(column.name, TEXTS)
    if column.kind == "word":
        score -= 3.0
    if closeness(column.name, NEVER_LABELS):
        score -= 3.0
    return score - 2.0 * column.missing / max(column.rows, 1)


def pairs_of_texts(columns: Sequence[ColumnFacts]) -> list[tuple[ColumnFacts, ColumnFacts]]:
    """Pairs of text columns that belong together by their names: ``text_1`` and ``text_2``, premise and hypothesis."""
    texts = [column for column in columns if column.kind in ("text", "word") and not is_identifier(column)]
    found = []
    for at, first in enumerate(texts):
        for second in texts[at + 1 :]:
            if _are_a_pair(words_of(first.name), words_of(second.name)):
                found.append((first, second))
    return found


_PAIRS = (
    {"premise", "hypothesis"},
    {"question", "sentence"},
    {"text", "hypothesis"},
    {"claim", "evidence"},
    {"sentence", "paraphrase"},
)
_ENDS = ({"1", "2"}, {"0", "1"}, {"a", "b"}, {"more", "less"}, {"first", "second"}, {"left", "right"}, {"x", "y"})


def _are_a_pair(first: list[str], second: list[str]) -> bool:
    if {"_".join(first), "_".join(second)} in _PAIRS:
        return True
    ends = set(first) ^ set(second)
    return len(first) == len(second) and ends in [set(pair) for pair in _ENDS]

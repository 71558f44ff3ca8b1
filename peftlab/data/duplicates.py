"""Equal texts: what they are, counting those whose labels disagree, and keeping them out of two splits."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from peftlab.core.splits import Split
from peftlab.core.words import comparable
from peftlab.data.columns import take

Keys = Callable[[Split], list[bytes]]
"""Gives a digest for every row of a split, equal for rows with equal texts."""


def text_key(texts: Sequence[Any]) -> bytes:
    """A digest that is equal for texts that a model could not tell apart, or hardly.

    See :func:`peftlab.core.words.comparable`. An uncased tokenizer reads such texts as the same tokens, so a copy that
    differs only so, in training and in test, would be a leak all the same. A list of tokens counts as the text that
    they make.

    Args:
        texts: The values of all text columns of a row: strings, or lists of strings.
    """
    digest = hashlib.blake2b(digest_size=16)
    for value in texts:
        text = value if isinstance(value, str) else " ".join(value)
        # \x1f cannot be in the text: it counts as white space.
        digest.update(comparable(text).encode() + b"\x1f")
    return digest.digest()


def text_keys(split: Split, text_columns: Sequence[str]) -> list[bytes]:
    """The digest of every row's text."""
    return [text_key(texts) for texts in zip(*(split.columns[column] for column in text_columns), strict=True)]


def count_conflicts(splits: Mapping[str, Split], keys: Keys, label_columns: Sequence[str]) -> int:
    """How many texts have copies that carry different labels, over all splits."""
    first: dict[bytes, str] = {}
    conflicting = set()
    for split in splits.values():
        if not label_columns:
            continue
        for key, spelt in zip(keys(split), _spelt(split, label_columns), strict=True):
            if first.setdefault(key, spelt) != spelt:
                conflicting.add(key)
    return len(conflicting)


def _spelt(split: Split, columns: Sequence[str]) -> list[str]:
    """The values of a row's columns as one text, for every row."""
    if not columns:
        return [""] * len(split)
    rows = zip(*(split.columns[column] for column in columns), strict=True)
    return [json.dumps(row, default=str, sort_keys=True) for row in rows]


def remove_duplicates(
    splits: Mapping[str, Split], keys: Keys, told_apart_by: Sequence[str]
) -> tuple[dict[str, Split], dict[str, int]]:
    """Keep every text in one split, and once in train.

    The test split is never changed, because its figures are compared with those of others. What is in test leaves
    validation and train; what is in validation leaves train; of equal texts within train the first row stays.

    Args:
        splits: The source's.
        keys: The digest of every row's text.
        told_apart_by: Columns that must be equal too for a row to leave train because of another one there.

    Returns:
        The splits, and counts of the rows that were removed.
    """
    held_out: dict[str, set[bytes]] = {}
    notes: dict[str, int] = {}
    kept: dict[str, Split] = {}
    for name in ("test", "validation", "train"):
        if name not in splits:
            continue
        split, own = splits[name], keys(splits[name])
        stays = list(range(len(split)))
        for other, texts in held_out.items():
            before = len(stays)
            stays = [at for at in stays if own[at] not in texts]
            notes[f"removed_from_{name}_because_in_{other}"] = before - len(stays)
        if name == "train":
            others = _spelt(split, told_apart_by)
            unique = {(own[at], others[at]): at for at in reversed(stays)}
            notes["duplicates_removed"] = len(stays) - len(unique)
            stays = sorted(unique.values())
        kept[name] = split if len(stays) == len(split) else take(split, stays)
        held_out[name] = {own[at] for at in stays}
    return kept, notes


def count_shared_texts(splits: Mapping[str, Split], keys: Keys) -> int:
    """How many texts are in two splits or more."""
    seen: set[bytes] = set()
    shared: set[bytes] = set()
    for split in splits.values():
        texts = set(keys(split))
        shared |= seen & texts
        seen |= texts
    return len(shared)

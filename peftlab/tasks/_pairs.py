"""Two texts as one input: with something between them, whatever the tokenizer.

Encoders' tokenizers put ``[SEP]`` or its like between the texts of a pair. Those of many decoders, GPT-2's for one, put
nothing there: where the first text ends, no model could tell.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from peftlab.tasks.language.user_text import added_around, encode_as_text, tokens_of

LINE_FEED = "\n"


def tokens_between(tokenizer: Any) -> list[int]:
    """What a tokenizer puts between the two texts of a pair by itself."""
    first, second = (list(tokens_of(tokenizer, text, add_special_tokens=False)["input_ids"]) for text in "ab")
    whole = list(tokens_of(tokenizer, "a", "b")["input_ids"])
    begin = _find(whole, first, 0) + len(first)
    return whole[begin : _find(whole, second, begin)]


def separator_of(tokenizer: Any, separator: str | None) -> tuple[str, list[int] | None]:
    """What stands between two texts.

    Args:
        tokenizer: Of the model.
        separator: As the recipe says; None: the tokenizer's own, else its separator or end token, which no text that
            somebody wrote can hold; else a line feed.

    Returns:
        It as text, and its tokens; None for the tokens where the tokenizer puts them there itself.
    """
    if separator is None:
        own = tokens_between(tokenizer)
        if own:
            return str(tokenizer.decode(own)), None
        separator = str(tokenizer.sep_token or tokenizer.eos_token or LINE_FEED)
    return separator, list(tokens_of(tokenizer, separator, add_special_tokens=False)["input_ids"])


def encode_pairs(
    tokenizer: Any, first: Sequence[str], second: Sequence[str], separator: Sequence[int], max_length: int
) -> list[tuple[list[int], bool]]:
    """Tokens of pairs with a separator between their texts, and whether a text was cut: the longer one goes first."""
    begin, end = added_around(tokenizer)
    options = {"add_special_tokens": False, "return_attention_mask": False, "truncation": False}
    lefts = encode_as_text(tokenizer, list(first), **options)["input_ids"]
    rights = encode_as_text(tokenizer, list(second), **options)["input_ids"]
    room = max(0, max_length - len(begin) - len(separator) - len(end))
    pairs = []
    for left, right in zip(lefts, rights, strict=True):
        kept_left, kept_right = _fitted(len(left), len(right), room)
        ids = [*begin, *left[:kept_left], *separator, *right[:kept_right], *end]
        pairs.append((ids[:max_length], kept_left + kept_right < len(left) + len(right)))
    return pairs


def _fitted(left: int, right: int, room: int) -> tuple[int, int]:
    """How many tokens of each text stay: the shorter one keeps all it can."""
    if left + right <= room:
        return left, right
    shorter = min(left, right, room // 2)
    return (shorter, room - shorter) if left <= right else (room - shorter, shorter)


def _find(whole: Sequence[int], part: Sequence[int], start: int) -> int:
    places = range(start, len(whole) - len(part) + 1)
    return next((at for at in places if list(whole[at : at + len(part)]) == list(part)), start)

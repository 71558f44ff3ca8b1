"""What a person wrote, as tokens: always text, never the tokenizer's control tokens, whatever it looks like.

``<|im_end|>`` or ``[SEP]`` in a message, a review or a corpus is something that somebody typed. As a control token it
would end a turn that goes on, or split a text in two; in a service, whoever writes it could speak as the system.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from typing import Any

from peftlab.core.errors import DataError

MARKS = ("\U000f0000", "\U000f0001")
"""Of transformers, around control tokens in what a person wrote; they are for private use, and taken out of texts."""


_ENCODING = threading.Lock()


def tokens_of(tokenizer: Any, *texts: Any, **options: Any) -> Any:
    """What the tokenizer makes of texts, by one thread at a time.

    Whether and where a fast tokenizer cuts is a state of its own, which each call of transformers' sets. A thread that
    calls it meanwhile would get texts that are cut otherwise, or not at all.

    Args:
        tokenizer: Any of transformers'.
        *texts: As it takes them.
        **options: Of its call.
    """
    with _ENCODING:
        return tokenizer(*texts, **options)


def encode_as_text(tokenizer: Any, *texts: Any, **options: Any) -> Any:
    """What the tokenizer makes of texts, special tokens that stand in them included as text.

    Args:
        tokenizer: Any of transformers'.
        *texts: As the tokenizer takes them: a text or a list; then the second texts of pairs.
        **options: Of the tokenizer's call.
    """
    specials = special_tokens(tokenizer)
    safe = [_without_leaks(tokenizer, each, specials) for each in texts]
    return tokens_of(tokenizer, *safe, split_special_tokens=True, **options)


def written_text(tokenizer: Any, text: str) -> str:
    """The text that :func:`encode_as_text` encodes, which a tokenizer's character offsets lead into."""
    return str(_without_leaks(tokenizer, text, special_tokens(tokenizer)))


def text_tokens(tokenizer: Any, text: str) -> list[int]:
    """Tokens of a text alone, with nothing that the tokenizer adds by itself."""
    return list(encode_as_text(tokenizer, text, add_special_tokens=False)["input_ids"])


def added_around(tokenizer: Any) -> tuple[list[int], list[int]]:
    """What a tokenizer puts before and behind a single text by itself, such as ``<s>``."""
    plain = list(tokens_of(tokenizer, "a", add_special_tokens=False)["input_ids"])
    whole = list(tokens_of(tokenizer, "a")["input_ids"])
    for start in range(len(whole) - len(plain) + 1):
        if whole[start : start + len(plain)] == plain:
            return whole[:start], whole[start + len(plain) :]
    return [], []


def special_tokens(tokenizer: Any) -> list[str]:
    """Every token that the tokenizer declares as special, whether it has a role or not."""
    declared = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
    return list(dict.fromkeys([*declared, *tokenizer.all_special_tokens]))


def pattern_of(tokens: Sequence[str]) -> re.Pattern[str]:
    """Matches each of the tokens; of two that begin alike the longer one."""
    longest_first = sorted(tokens, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)) or "(?!)")


def marked(text: str, tokens: re.Pattern[str]) -> str:
    """A person's text with marks around its control tokens, which :func:`encode_marked` tells from a template's own."""
    from transformers.utils.chat_template_utils import mark_control_tokens

    found: str = mark_control_tokens(text, tokens)
    return found


def unmarked(text: str) -> str:
    """The text without marks."""
    return text.replace(MARKS[0], "").replace(MARKS[1], "")


def encode_marked(tokenizer: Any, text: str, *, goes_on: bool = False) -> list[int]:
    """Tokens of a text: control tokens are the ones without marks; those with marks are text.

    Args:
        tokenizer: Any of transformers'.
        text: With marks, or without.
        goes_on: The text goes on behind another, so that it does not get what some tokenizers put before a text.

    Raises:
        DataError: The vocabulary holds a marked token as a word of its own, so that it cannot be told from text.
    """
    from transformers.utils.chat_template_utils import encode_marked_chat

    try:
        with _ENCODING:
            return list(encode_marked_chat(tokenizer, f"{MARKS[0]}{text}" if goes_on else text))
    except ValueError as error:
        raise DataError(
            f"a text holds a control token of the model: {error}", hint="Take it out of the text, or remove the row."
        ) from None


def _without_leaks(tokenizer: Any, value: Any, specials: Sequence[str]) -> Any:
    """The same texts, with a blank in special tokens that the vocabulary itself holds as whole words or pieces.

    Unigram and word-level vocabularies do: without the blank such a token would come out of plain text.
    """
    if isinstance(value, str):
        return _mended(tokenizer, value, specials)
    return [_without_leaks(tokenizer, item, specials) for item in value] if isinstance(value, list | tuple) else value


def _mended(tokenizer: Any, text: str, specials: Sequence[str]) -> str:
    for token in specials:
        if token not in text or len(token) < 2:
            continue
        ids = tokens_of(tokenizer, token, split_special_tokens=True, add_special_tokens=False)["input_ids"]
        if tokenizer.convert_tokens_to_ids(token) in ids:
            text = text.replace(token, f"{token[0]} {token[1:]}")
    return text

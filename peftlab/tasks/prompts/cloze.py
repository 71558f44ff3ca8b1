"""A prompt with a place for the label: its tokens for a text, and those of the words that may stand there."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from peftlab.core.errors import DataError, UnsupportedError
from peftlab.tasks.language.user_text import (
    added_around,
    encode_as_text,
    encode_marked,
    marked,
    pattern_of,
    special_tokens,
    text_tokens,
    written_text,
)

LABEL = "label"


def fields_of(prompt: str) -> list[str]:
    """The names in braces, in their order.

    Raises:
        ValueError: A brace is not closed.
    """
    return [name for _, name, _, _ in string.Formatter().parse(prompt) if name is not None]


def check_prompt(prompt: str, columns: Sequence[str]) -> None:
    """Refuse a prompt that lacks a place, or has one for nothing.

    Args:
        prompt: With names in braces.
        columns: Of the texts.

    Raises:
        ValueError: With what is wrong.
    """
    try:
        fields = fields_of(prompt)
    except ValueError as error:
        raise ValueError(f"`prompt`: {error}; braces hold names, and a plain brace is written twice") from None
    if fields.count(LABEL) != 1:
        raise ValueError("`prompt` needs {label} once, where the label's word stands, as in '{text} It was {label}.'")
    for column in columns:
        if fields.count(column) != 1:
            raise ValueError(f"`prompt` needs {{{column}}} once, where the text of this column stands")
    strange = [name for name in fields if name not in (LABEL, *columns)]
    if strange:
        raise ValueError(f"`prompt` has a place {{{strange[0]}}}, and the texts are in: {', '.join(columns)}")


def check_order(prompt: str, columns: Sequence[str]) -> None:
    """Refuse a prompt of which a model that reads from left to right would not be given every text.

    Args:
        prompt: With names in braces.
        columns: Of the texts.

    Raises:
        UnsupportedError: A text stands behind the label's place.
    """
    fields = fields_of(prompt)
    behind = [name for name in fields[fields.index(LABEL) :] if name in columns]
    if behind:
        raise UnsupportedError(
            f"the model reads from left to right, and is given what stands before {{label}}: it would not see "
            f"{{{behind[0]}}}",
            where="task.prompt",
            hint="Put {label} behind every text, as in '{text} It was {label}.'",
        )


@dataclass(frozen=True)
class Place:
    """A text in its prompt.

    Args:
        input_ids: Without the label's word; a masked model has its mask there.
        at: The position whose state tells the word's (first) token.
        is_cut: Whether the text was too long.
    """

    input_ids: list[int]
    at: int
    is_cut: bool


class Cloze:
    """A prompt for one tokenizer.

    Args:
        prompt: With names in braces.
        columns: Of the texts, in the order in which texts are given.
        tokenizer: Of the model.
        is_masked: Whether the model fills masks; else it reads what stands before the label, and goes on.
        max_length: Tokens at most.
    """

    def __init__(
        self, prompt: str, columns: Sequence[str], tokenizer: Any, *, is_masked: bool, max_length: int
    ) -> None:
        if is_masked and tokenizer.mask_token_id is None:
            raise UnsupportedError(
                "the model reads both ways, and its tokenizer has no mask token to put in the label's place",
                where="task.prompt",
            )
        self._columns, self._tokenizer, self._max_length = columns, tokenizer, max_length
        self._is_masked = is_masked
        self._pieces = list(string.Formatter().parse(prompt))
        self._specials = pattern_of(special_tokens(tokenizer))

    @cached_property
    def _around(self) -> tuple[list[int], list[int]]:
        before, behind = added_around(self._tokenizer)
        return before, behind if self._is_masked else []

    def read(self, texts: Sequence[str], *, where: str, longest_word: int = 1) -> Place:
        """The tokens of texts in their prompt; the longest text is cut at its end where there are too many.

        Args:
            texts: One a column.
            where: The row, for messages.
            longest_word: Tokens that a word needs behind the prompt.

        Raises:
            DataError: The prompt alone is too long.
        """
        room = self._max_length - (0 if self._is_masked else longest_word)
        kept, is_cut = list(texts), False
        while len(ids := self._tokens(kept, self._mask)) > room:
            counts = [len(text_tokens(self._tokenizer, text)) for text in kept]
            at = max(range(len(kept)), key=counts.__getitem__)
            left = counts[at] - (len(ids) - room)
            if left < 1:
                raise DataError(
                    f"the prompt alone has {len(ids) - sum(counts)} tokens, and task.max_length leaves room for {room}",
                    where=where,
                    hint="Raise task.max_length, or shorten task.prompt.",
                )
            shorter = self._cut(kept[at], left)
            # Whatever a tokenizer says of its tokens' places, each round takes something away.
            kept[at], is_cut = shorter if len(shorter) < len(kept[at]) else kept[at][:-1], True
        mask = self._tokenizer.mask_token_id
        return Place(ids, ids.index(mask) if self._is_masked else len(ids) - 1, is_cut)

    def tokens_of_words(self, words: Mapping[str, str]) -> dict[str, list[int]]:
        """The tokens that each class's word has in its place.

        Raises:
            UnsupportedError: A masked model has several for one, two classes have the same, or one has none.
        """
        found = {name: self._word(word) for name, word in words.items()}
        for name, ids in found.items():
            shown = f"`{words[name]}`, the word of the class {name!r},"
            if not ids or self._tokenizer.unk_token_id in ids:
                raise UnsupportedError(f"{shown} is unknown to the model", where="task.words", hint=_WORDS)
            if self._is_masked and len(ids) != 1:
                pieces = ", ".join(self._tokenizer.convert_ids_to_tokens(ids))
                raise UnsupportedError(
                    f"{shown} is {len(ids)} tokens for this model ({pieces}), and a mask is one",
                    where="task.words",
                    hint=_WORDS,
                )
            twin = next((other for other, own in found.items() if other != name and own == ids), None)
            if twin is not None:
                raise UnsupportedError(
                    f"the classes {name!r} and {twin!r} have the same word, `{words[name]}`",
                    where="task.words",
                    hint=_WORDS,
                )
        return found

    @property
    def _mask(self) -> str:
        return str(self._tokenizer.mask_token) if self._is_masked else ""

    def _word(self, word: str) -> list[int]:
        """What differs in the tokens of a prompt with the word and of one without."""
        texts = ["a"] * len(self._columns)
        if not self._is_masked:
            prefix, whole = self._tokens(texts, ""), self._tokens(texts, word)
            if whole[: len(prefix)] == prefix:
                return whole[len(prefix) :]
            return text_tokens(self._tokenizer, f" {word}")
        with_mask = self._tokens(texts, self._mask)
        whole, at = self._tokens(texts, word), with_mask.index(self._tokenizer.mask_token_id)
        behind = len(with_mask) - at - 1
        return whole[at : len(whole) - behind]

    def _tokens(self, texts: Sequence[str], label: str) -> list[int]:
        """The prompt with texts, and with something in the label's place; up to there, where the model goes on."""
        given, parts = dict(zip(self._columns, texts, strict=True)), list[str]()
        for literal, name, _, _ in self._pieces:
            parts.append(literal)
            if name == LABEL:
                parts.append(label)
                if not self._is_masked:
                    break
            elif name is not None:
                parts.append(marked(given[name], self._specials))
        text = "".join(parts)
        before, behind = self._around
        # A blank before a word is a part of the word's first token.
        return [*before, *encode_marked(self._tokenizer, text if label else text.rstrip()), *behind]

    def _cut(self, text: str, tokens: int) -> str:
        if not self._tokenizer.is_fast:
            return str(self._tokenizer.decode(text_tokens(self._tokenizer, text)[:tokens]))
        encoded = encode_as_text(self._tokenizer, text, add_special_tokens=False, return_offsets_mapping=True)
        offsets = encoded["offset_mapping"]
        # Several tokens may be bytes of one character.
        return written_text(self._tokenizer, text)[: min(offsets[tokens - 1][1], offsets[tokens][0])]


_WORDS = "Choose another word for the class in task.words, such as `{positive: great, negative: terrible}`."

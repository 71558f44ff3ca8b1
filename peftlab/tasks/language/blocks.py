"""Raw text as blocks of tokens: read row by row, held as four bytes a token, cut where it is looked at."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import Any, overload

from peftlab.core.splits import EncodedSplit, Example, Split
from peftlab.tasks.language.user_text import encode_as_text

ROWS_AT_ONCE = 1000


class TokenStream:
    """The tokens of all rows in a row.

    Args:
        texts: The rows; each is asked for once. Special tokens in them are text.
        tokenizer: Fast ones tell which tokens make up a word.
        separator: Token after each row; None: none.
        opening: Tokens before each row, where they do not stand there already as the separator of the row before.
        with_words: Whether to number the words.
    """

    def __init__(
        self,
        texts: Sequence[str],
        tokenizer: Any,
        *,
        separator: int | None,
        opening: Sequence[int] = (),
        with_words: bool = False,
    ) -> None:
        self.tokens, self.words, self.starts = array("I"), array("I"), array("Q")
        word = 0
        for begin in range(0, len(texts), ROWS_AT_ONCE):
            rows = [texts[row] for row in range(begin, min(begin + ROWS_AT_ONCE, len(texts)))]
            encoded = encode_as_text(
                tokenizer, rows, add_special_tokens=False, return_attention_mask=False, verbose=False
            )
            for row, ids in enumerate(encoded["input_ids"]):
                self.starts.append(len(self.tokens))
                if ids and opening and self.tokens[-len(opening) :].tolist() != list(opening):
                    self.tokens.extend(opening)
                self.tokens.extend(ids)
                if with_words:
                    numbers = [word + (number or 0) for number in encoded.word_ids(row)]
                    self.words.extend(numbers)
                    word = numbers[-1] + 1 if numbers else word
                if separator is not None and ids:
                    self.tokens.append(separator)
                    if with_words:
                        self.words.append(word)
                        word += 1

    def row_at(self, place: int) -> int:
        """The row that a token is of."""
        return bisect_right(self.starts, place) - 1


class Blocks(Sequence[Example]):
    """Equal blocks of a stream, made when they are asked for.

    Args:
        stream: The tokens.
        length: Tokens of a block.
        overlap: Tokens that a block shares with the one before: 1 lets every token be predicted once.
        make: From the places of a block's first and last token (exclusive) to an example.
    """

    def __init__(self, stream: TokenStream, *, length: int, overlap: int, make: Any) -> None:
        stride, count = max(1, length - overlap), len(stream.tokens)
        self._ranges = [
            (start, min(start + length, count)) for start in range(0, max(1, count - overlap), stride) if count
        ]
        self._make, self._stream = make, stream

    def __len__(self) -> int:
        return len(self._ranges)

    def as_split(self, split: Split) -> EncodedSplit:
        """The blocks as the examples of the split that they are made of; each has the row in which it begins."""
        index = [split.index[self._stream.row_at(start)] for start, _ in self._ranges]
        return EncodedSplit(split.name, index, self, {"tokens": len(self._stream.tokens)})

    @overload
    def __getitem__(self, place: int) -> Example: ...

    @overload
    def __getitem__(self, place: slice) -> Sequence[Example]: ...

    def __getitem__(self, place: int | slice) -> Example | Sequence[Example]:
        if isinstance(place, slice):
            return [self._make(*pair) for pair in self._ranges[place]]
        made: Example = self._make(*self._ranges[place])
        return made

    def __iter__(self) -> Iterator[Example]:
        return (self[place] for place in range(len(self)))

"""A question with each window of a passage, where the passage is longer than the model reads at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from peftlab.core.errors import UnsupportedError
from peftlab.tasks.language.user_text import added_around, encode_as_text, written_text
from peftlab.tasks.spans.answers import Answer
from peftlab.tasks.windows import cut_into_windows


@dataclass(frozen=True)
class Window:
    """The question and a part of its passage, as tokens.

    Args:
        input_ids: Of question and part.
        token_type_ids: Where the tokenizer has them.
        offsets: For every token the characters of the passage that it stands for; None: it is not of the passage.
        nowhere: The place of the token that says that the answer is not here: the first one of encoders, and of models
            that read from left to right the last, which has seen everything.
    """

    input_ids: list[int]
    token_type_ids: list[int] | None
    offsets: list[tuple[int, int] | None]
    nowhere: int

    def target(self, answer: Answer | None) -> tuple[int, int]:
        """First and last token of an answer; twice ``nowhere`` where the window does not hold all of it."""
        places = [at for at, own in enumerate(self.offsets) if own is not None]
        if answer is None or not places:
            return self.nowhere, self.nowhere
        inside = [at for at in places if self._of(at)[0] < answer.end and self._of(at)[1] > answer.start]
        begins = bool(inside) and self._of(inside[0])[0] <= answer.start
        if not begins or self._of(inside[-1])[1] < answer.end:
            return self.nowhere, self.nowhere
        return inside[0], inside[-1]

    def _of(self, place: int) -> tuple[int, int]:
        offsets = self.offsets[place]
        assert offsets is not None  # noqa: S101 - asked for tokens of the passage alone
        return offsets


def windows_of(
    question: str, passage: str, tokenizer: Any, *, max_length: int, stride: int
) -> tuple[list[Window], bool]:
    """The windows of a passage, of which neighbours share ``stride`` tokens; and whether the question was cut.

    A question that would take more than half of ``max_length`` loses its end.

    Args:
        question: Stands in every window, before the passage.
        passage: May be of any length.
        tokenizer: A fast one.
        max_length: Tokens of a window.
        stride: Tokens that two windows share; fewer than the passage has room for.
    """
    question, is_cut = _shortened(question, tokenizer, max_length // 2)
    if not tokenizer.num_special_tokens_to_add(pair=True) > tokenizer.num_special_tokens_to_add(pair=False):
        question += "\n"  # the tokenizer puts nothing between two texts
    end = _end(tokenizer)
    encoded = cut_into_windows(
        tokenizer,
        question,
        passage,
        truncation="only_second",
        max_length=max_length - len(end),
        stride=stride,
        return_offsets_mapping=True,
    )
    places = _places(written_text(tokenizer, passage), passage)
    windows = []
    for row, ids in enumerate(encoded["input_ids"]):
        of_passage = [text == 1 for text in encoded.sequence_ids(row)]
        offsets = [
            (places[start], places[end]) if mine and end > start else None
            for mine, (start, end) in zip(of_passage, encoded["offset_mapping"][row], strict=True)
        ]
        types = encoded["token_type_ids"][row] if "token_type_ids" in encoded else None
        first = tokenizer.cls_token_id
        ids, offsets, types = [*ids, *end], [*offsets, *[None] * len(end)], types and [*types, *[1] * len(end)]
        windows.append(Window(ids, types, offsets, 0 if first is not None and ids[0] == first else len(ids) - 1))
    return windows, is_cut


def _end(tokenizer: Any) -> list[int]:
    """What must be put behind a window, so that a token that is not of the passage can say that nothing answers.

    Raises:
        UnsupportedError: The tokenizer has no such token.
    """
    begin, behind = added_around(tokenizer)
    if behind or (tokenizer.cls_token_id is not None and begin[:1] == [tokenizer.cls_token_id]):
        return []
    end = next((at for at in (tokenizer.sep_token_id, tokenizer.eos_token_id) if at is not None), None)
    if end is None:
        raise UnsupportedError(
            "the model's tokenizer has no token that could stand for no answer, such as an end token"
        )
    return [end]


def _shortened(question: str, tokenizer: Any, most: int) -> tuple[str, bool]:
    encoded = encode_as_text(tokenizer, question, add_special_tokens=False, return_offsets_mapping=True)
    room = most - tokenizer.num_special_tokens_to_add(pair=True)
    if len(encoded["input_ids"]) <= room:
        return question, False
    return written_text(tokenizer, question)[: encoded["offset_mapping"][max(1, room) - 1][1]], True


def _places(written: str, passage: str) -> Sequence[int]:
    """For every character that is encoded its place in the passage: blanks may have been put into special tokens."""
    if written == passage:
        return range(len(passage) + 1)
    places, at = [], 0
    for character in written:
        places.append(at)
        at += at < len(passage) and passage[at] == character
    return [*places, at]

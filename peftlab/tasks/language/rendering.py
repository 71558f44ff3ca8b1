"""Conversations as tokens: the turns that a renderer makes of them, and how they are made to fit.

``task.chat`` decides who renders: the tokenizer's chat template (``chat_template.py``) or a plain template
(``plain_template.py``). What stands before and behind a text, such as ``<s>`` and ``</s>``, is decided there: once,
for training, evaluation and every verb that generates.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from peftlab.core.errors import DataError
from peftlab.core.splits import Example
from peftlab.tasks.language.conversations import Conversation
from peftlab.tasks.text_inputs import IGNORED


@dataclass(frozen=True)
class Turn:
    """A response and what stands before it, since the response before.

    Args:
        before: Tokens that are read only.
        response: Tokens to be written, the end token included.
        is_learned: Whether the loss is taken on the response.
    """

    before: list[int]
    response: list[int]
    is_learned: bool = True

    def __len__(self) -> int:
        return len(self.before) + len(self.response)


@dataclass(frozen=True)
class Fitted:
    """Turns that fit.

    Args:
        turns: As the model reads them.
        responses_lost: How many earlier responses went with the turns that did not fit.
        is_cut: Whether the last prompt lost its beginning.
        responses_not_learned: How many earlier responses are only read, though their weight is not 0.
    """

    turns: list[Turn]
    responses_lost: int = 0
    is_cut: bool = False
    responses_not_learned: int = 0


class Renderer(Protocol):
    """Renders conversations for one model."""

    @property
    def end_token_ids(self) -> list[int]:
        """The tokens of which each ends a response."""

    def ends_among(self, token_ids: Iterable[int]) -> list[int]:
        """Of the end tokens that a checkpoint names for itself, those that end a response here too."""

    def turns(self, conversation: Conversation, *, where: str) -> list[Turn]:
        """The turns of a whole conversation, which ends with a response.

        Raises:
            DataError: The conversation cannot be rendered.
        """

    def fit(self, conversation: Conversation, max_length: int, *, where: str) -> Fitted:
        """The turns, made to fit: old ones go first, then the beginning of the last prompt; the last response stays.

        Raises:
            DataError: The conversation cannot be rendered, or does not fit.
        """

    def fit_prompt(self, conversation: Conversation, max_tokens: int, *, where: str) -> tuple[list[int], bool]:
        """What the model reads before it writes the next response, and whether something of it went.

        The same tokens as in training before that response, whatever the response.

        Raises:
            DataError: The conversation cannot be rendered, or does not fit.
        """


class TooLongError(DataError):
    """A conversation that cannot be made to fit, because what must stay is too long."""


def too_long(tokens: int, max_length: int, *, where: str, what: str = "the response") -> TooLongError:
    """The error about something that must stay whole and does not fit.

    Args:
        tokens: Its length.
        max_length: That it should fit into, with one token of a prompt at least.
        where: The row.
        what: It is.
    """
    verb = "have" if " and " in what else "has"
    return TooLongError(
        f"{what} {verb} {tokens} tokens, which do not fit into max_length {max_length}",
        where=where,
        hint=f"Raise task.max_length to more than {tokens}, remove the row, or set task.drop_too_long.",
    )


def tokens_and_labels(turns: Sequence[Turn]) -> Example:
    """Tokens of some turns, and at each the token that is to be predicted there: a learned response's, or none."""
    ids = [token for turn in turns for token in (*turn.before, *turn.response)]
    targets = [
        token
        for turn in turns
        for token in (
            *[IGNORED] * len(turn.before),
            *(turn.response if turn.is_learned else [IGNORED] * len(turn.response)),
        )
    ]
    return {"input_ids": ids, "labels": [*targets[1:], IGNORED]}

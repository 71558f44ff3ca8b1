"""Prompts and responses for an encoder–decoder: the encoder reads the prompt, the decoder writes the response.

A response stands in a row of its own and begins after the decoder's start token, which the model puts there. Both have
around them what the tokenizer puts around a text, and around the target of a text, such as ``</s>`` or ``<s>`` and
``</s>``: so the model was pre-trained.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from peftlab.core.errors import ConfigError, UnsupportedError
from peftlab.core.model_facts import ModelFacts
from peftlab.core.splits import Example
from peftlab.tasks.language.conversations import Conversation
from peftlab.tasks.language.plain_template import PlainTemplate
from peftlab.tasks.language.rendering import Fitted, TooLongError, Turn
from peftlab.tasks.language.user_text import added_around, tokens_of, written_text

FAMILY = "family"
"""What a task has learned of its model: ``encoder_decoder``, or nothing."""


class SourceTarget:
    """Renders conversations as one turn: what the encoder reads, and the last response.

    Args:
        tokenizer: Of the model.
        template: ``{prompt}`` stands for the user's text.
        max_target: Most tokens of a response.

    Raises:
        UnsupportedError: There is no end token.
    """

    def __init__(self, tokenizer: Any, template: str, max_target: int) -> None:
        self._plain = PlainTemplate(tokenizer, template)
        self._tokenizer, self._max_target = tokenizer, max_target
        _, self._behind = added_around(tokenizer)

    @property
    def end_token_ids(self) -> list[int]:
        """The tokenizer's end token."""
        return self._plain.end_token_ids

    def ends_among(self, token_ids: Iterable[int]) -> list[int]:
        """None: responses end with the tokenizer's own end token."""
        return []

    def turns(self, conversation: Conversation, *, where: str) -> list[Turn]:
        """The only turn.

        Raises:
            DataError: The conversation holds more than a system message, prompts and responses in turn.
        """
        *earlier, last = self._plain.turns(conversation, where=where)
        source = [token for turn in earlier for token in (*turn.before, *turn.response)]
        response = self._target(conversation.messages[-1]["content"]) if last.response else []
        return [Turn([*source, *last.before, *self._behind], response)]

    def fit(self, conversation: Conversation, max_length: int, *, where: str) -> Fitted:
        """The turn; of a prompt that is too long the end goes, since what is asked for stands at its beginning.

        Args:
            conversation: Ends with a response.
            max_length: Of the prompt alone.
            where: The row.

        Raises:
            DataError: The conversation cannot be rendered, or the response is too long.
        """
        (turn,) = self.turns(conversation, where=where)
        if len(turn.response) > self._max_target:
            raise TooLongError(
                f"the response has {len(turn.response)} tokens, and the decoder writes {self._max_target} at most",
                where=where,
                hint=f"Set task.max_target_length to {len(turn.response)} or more, remove the row, or set "
                "task.drop_too_long.",
            )
        is_cut = len(turn.before) > max_length
        kept = turn.before[: max(0, max_length - len(self._behind))] + self._behind if is_cut else turn.before
        unlearned = sum(message["role"] == "assistant" for message in conversation.messages[:-1])
        return Fitted([Turn(kept, turn.response)], is_cut=is_cut, responses_not_learned=unlearned)

    def fit_prompt(self, conversation: Conversation, max_tokens: int, *, where: str) -> tuple[list[int], bool]:
        """What the encoder reads before the next response is written, and whether something of it went."""
        fitted = self.fit(conversation, max_tokens, where=where)
        return fitted.turns[0].before, fitted.is_cut

    def _target(self, text: str) -> list[int]:
        """Tokens of a response, as the tokenizer writes targets."""
        safe = written_text(self._tokenizer, text)
        return list(tokens_of(self._tokenizer, text_target=safe, split_special_tokens=True)["input_ids"])


def source_and_target(turns: Sequence[Turn]) -> Example:
    """An example of which ``input_ids`` are for the encoder, and ``labels`` are what the decoder is to write."""
    (turn,) = turns
    return {"input_ids": turn.before, "labels": turn.response}


def shared_length(length: int, source: int, target: int) -> Example:
    """A placeholder of so many tokens in all, which it has of a prompt and a response as the longest ones would.

    Each has one at least.
    """
    own = max(1, min(length - 1, round(length * target / (source + target))))
    return {"input_ids": [0] * max(1, length - own), "labels": [0] * own}


def check_encoder_decoder(facts: ModelFacts, *, lengths: dict[str, int], is_chat: bool, packing: bool) -> None:
    """Refuse settings that an encoder–decoder cannot be tuned with.

    Args:
        facts: Of the model.
        lengths: The longest prompt and response, by the key that says so.
        is_chat: Whether a chat template renders.
        packing: Whether a row is to hold several examples.

    Raises:
        UnsupportedError: With the reason.
        ConfigError: A length is beyond the model's positions.
    """
    if is_chat:
        raise UnsupportedError(
            f"{facts.path} ({facts.model_type}) reads a prompt by its encoder and writes by its decoder; chat "
            "templates are for models that do both from left to right",
            hint="Give prompts and responses in columns, without task.chat and task.messages.",
        )
    if packing:
        raise UnsupportedError(
            f"{facts.path} ({facts.model_type}) is an encoder-decoder; its rows hold one prompt and one response",
            hint="Set task.packing to false; training.max_tokens_per_batch fills batches too.",
        )
    if "decoder_start_token_id" in facts.config and facts.config["decoder_start_token_id"] is None:
        raise UnsupportedError(
            f"{facts.path} ({facts.model_type}) does not say with which token its decoder begins",
            hint="Choose a model whose config.json has a decoder_start_token_id, such as T5, mT5 or BART.",
        )
    for key, length in lengths.items():
        if facts.max_length is not None and length > facts.max_length:
            raise ConfigError(
                f"it is {length}, but {facts.path} has positions for {facts.max_length} tokens",
                where=f"task.{key}",
                hint=f"Set it to {facts.max_length} or less.",
            )

"""From a conversation to tokens: what the model reads, and which of it are responses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from peftlab.errors import DataError, UnsupportedError
from peftlab.tasks._conversations import Message
from peftlab.tasks._text import IGNORED


@dataclass(frozen=True)
class Turn:
    """A response and what stands before it, since the response before.

    Args:
        before: Tokens that are read only.
        response: Tokens to be written, the end token included.
    """

    before: list[int]
    response: list[int]

    def __len__(self) -> int:
        return len(self.before) + len(self.response)


class Renderer:
    """Renders conversations for one model.

    Each piece is tokenised by itself, so that a prompt has the same tokens whether a response follows or not.

    Args:
        tokenizer: Of the model.
        chat: Whether by the tokenizer's chat template, or by a plain template.
        template: The plain template; ``{prompt}`` stands for the user's text.

    Raises:
        UnsupportedError: There is no chat template, or no end token.
    """

    def __init__(self, tokenizer: Any, *, chat: bool, template: str) -> None:
        self._tokenizer, self._chat, self._template = tokenizer, chat, template
        if chat and not tokenizer.chat_template:
            raise UnsupportedError(
                "the data holds chats, and the model's tokenizer has no chat template",
                where="model.path",
                hint="Choose a model that was tuned for chats, or give prompts and responses as two columns.",
            )
        if tokenizer.eos_token_id is None:
            raise UnsupportedError("the model's tokenizer has no end token, so a response would never end")

    def turns(self, messages: Sequence[Message], *, where: str) -> list[Turn]:
        """The turns of a whole conversation.

        Raises:
            DataError: The template refuses the messages, or changes what stands before when one is added.
        """
        turns, done = [], 0
        texts = [
            (self.prompt_text(messages[:at], where=where), self._text(messages[: at + 1], where))
            for at in _responses(messages)
        ]
        for before, after in texts:
            if not after.startswith(before):
                raise DataError("the chat template does not go on where its prompt ends", where=where)
            response = after[len(before) :]
            end = response.rfind(self._tokenizer.eos_token)
            # What a template writes behind its end token, such as a line feed, belongs to the next prompt.
            kept = response[: end + len(self._tokenizer.eos_token)] if end >= 0 else response.rstrip()
            ids = self.tokens(kept)
            if not ids or ids[-1] != self._tokenizer.eos_token_id:
                ids.append(self._tokenizer.eos_token_id)
            turns.append(Turn(self.tokens(before[done:]), ids))
            done = len(before) + len(kept)
        return turns

    def open_turns(self, messages: Sequence[Message], *, where: str) -> list[Turn]:
        """The turns of a conversation whose next response is to be written, piece by piece as in training.

        Raises:
            DataError: The template refuses the messages, or changes what stands before when one is added.
        """
        return self.turns([*messages, {"role": "assistant", "content": "."}], where=where)

    def prompt_text(self, messages: Sequence[Message], *, where: str | None = None) -> str:
        """What the model reads before it writes the next response.

        Raises:
            DataError: The chat template refuses the messages, such as a system message that it does not know.
        """
        return self._by_chat_template(messages, where, prompt=True) if self._chat else self._text(messages, where)

    def tokens(self, text: str) -> list[int]:
        """Tokens of a text, without special ones that it does not hold."""
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def _by_chat_template(self, messages: Sequence[Message], where: str | None, *, prompt: bool) -> str:
        from jinja2 import TemplateError

        try:
            text: str = self._tokenizer.apply_chat_template(
                list(messages), tokenize=False, add_generation_prompt=prompt
            )
        except TemplateError as error:
            raise DataError(
                f"the model's chat template refuses the messages: {error}",
                where=where,
                hint="Change the row, or choose a model whose template takes such a conversation.",
            ) from None
        return text

    def _text(self, messages: Sequence[Message], where: str | None) -> str:
        if self._chat:
            return self._by_chat_template(messages, where, prompt=False)
        end = self._tokenizer.eos_token
        return "".join(
            self._template.replace("{prompt}", message["content"])
            if message["role"] == "user"
            else f"{message['content']}{end if message['role'] == 'assistant' else ''}"
            for message in messages
        )


def fit_turns(turns: Sequence[Turn], max_length: int, *, where: str) -> tuple[list[Turn], int, int]:
    """Make turns fit: old ones go first, then the beginning of the last prompt; the last response stays whole.

    Returns:
        The turns; how many responses went with old turns; and how many tokens of the last prompt went.

    Raises:
        DataError: The last response alone does not fit.
    """
    last = turns[-1]
    if len(last.response) >= max_length:
        raise DataError(
            f"the response has {len(last.response)} tokens, which do not fit into max_length {max_length}",
            where=where,
            hint=f"Raise task.max_length to more than {len(last.response)}, remove the row, or set task.drop_too_long.",
        )
    kept = list(turns)
    while len(kept) > 1 and sum(map(len, kept)) > max_length:
        kept.pop(0)
    cut = max(0, sum(map(len, kept)) - max_length)
    if cut:
        kept = [Turn(last.before[cut:], last.response)]
    return kept, len(turns) - len(kept), cut


def fit_prompt(turns: Sequence[Turn], max_tokens: int) -> tuple[list[int], bool]:
    """What the model reads before it writes the last response, which itself is not looked at.

    Args:
        turns: Of the conversation, the last response (of any length) included.
        max_tokens: Of the prompt; it is cut as examples are, see :func:`fit_turns`.

    Returns:
        The prompt's tokens; and whether its beginning was cut away.
    """
    *before, last = turns
    kept, turns_lost, cut = fit_turns([*before, Turn(last.before, [])], max_tokens, where="the prompt")
    return [token for turn in kept for token in (*turn.before, *turn.response)], turns_lost + cut > 0


def tokens_and_labels(turns: Sequence[Turn]) -> tuple[list[int], list[int]]:
    """Tokens of some turns, and at each the token that is to be predicted there: a response's, or none."""
    ids = [token for turn in turns for token in (*turn.before, *turn.response)]
    targets = [token for turn in turns for token in (*[IGNORED] * len(turn.before), *turn.response)]
    return ids, [*targets[1:], IGNORED]


def _responses(messages: Sequence[Message]) -> list[int]:
    return [at for at, message in enumerate(messages) if message["role"] == "assistant"]

"""Prompts and responses without a chat template: a text with the prompt in it, and an end token.

The template is peftlab's, so the end token is too: a model that was shown responses without an end would go on writing
after each of them. What the tokenizer puts before a text by itself, such as ``<s>``, stands before the prompt, once;
what it puts behind a text belongs behind the response.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from peftlab.core.errors import DataError, UnsupportedError
from peftlab.tasks.language.conversations import REASONING, Conversation
from peftlab.tasks.language.rendering import Fitted, Turn, too_long
from peftlab.tasks.language.user_text import added_around, encode_marked, marked, pattern_of, special_tokens


def _with_a_prompt(template: str) -> str:
    if "{prompt}" not in template:
        raise ValueError("the template must hold `{prompt}`")
    return template


PromptTemplate = Annotated[
    str,
    AfterValidator(_with_a_prompt),
    Field(description="How a prompt is written without a chat template. The response follows it."),
]
"""A recipe's key: a text in which ``{prompt}`` stands for what the user says."""
USUAL_TEMPLATE = "{prompt}\n"


class PlainTemplate:
    """Renders conversations by a template of text.

    Each piece is tokenised by itself, so that a prompt has the same tokens whether a response follows or not.

    Args:
        tokenizer: Of the model.
        template: ``{prompt}`` stands for the user's text.

    Raises:
        UnsupportedError: There is no end token.
    """

    def __init__(self, tokenizer: Any, template: str) -> None:
        if tokenizer.eos_token_id is None:
            raise UnsupportedError("the model's tokenizer has no end token, so a response would never end")
        self._tokenizer, self._template = tokenizer, template
        self._end = int(tokenizer.eos_token_id)
        self._begin, _ = added_around(tokenizer)
        self._specials = pattern_of(special_tokens(tokenizer))

    @property
    def end_token_ids(self) -> list[int]:
        """The tokenizer's end token."""
        return [self._end]

    def ends_among(self, token_ids: Iterable[int]) -> list[int]:
        """None: the template and its end are peftlab's own, whatever the checkpoint was tuned for."""
        return []

    def turns(self, conversation: Conversation, *, where: str) -> list[Turn]:
        """The turns of a whole conversation.

        Raises:
            DataError: It holds more than a system message, prompts and responses in turn.
        """
        _check_order(conversation, where)
        turns, before = list[Turn](), self._head(conversation)
        for message in conversation.messages:
            if message["role"] == "assistant":
                turns.append(Turn(before, [*self._text(message["content"]), self._end]))
                before = []
            elif message["role"] == "user":
                before = self._joined(before, self._prompt(message["content"]))
        return turns if not before else [*turns, Turn(before, [])]

    def fit(self, conversation: Conversation, max_length: int, *, where: str) -> Fitted:
        """The turns, made to fit; what the tokenizer puts before the prompt stays, and a system message."""
        *earlier, last = self.turns(conversation, where=where)
        if len(last.response) >= max_length:
            raise too_long(len(last.response), max_length, where=where)
        head, kept = self._head(conversation), [*earlier, last]
        while len(kept) > 1 and sum(map(len, kept)) > max_length:
            kept.pop(0)
            kept[0] = Turn(self._joined(head, kept[0].before), kept[0].response)
        cut = max(0, sum(map(len, kept)) - max_length)
        if cut:
            room = max_length - len(last.response)
            begin, rest = head[:room], kept[0].before[len(head) :]
            kept = [Turn([*begin, *rest[len(rest) - (room - len(begin)) :]], last.response)]
        return Fitted(kept, len(earlier) + 1 - len(kept), cut > 0)

    def fit_prompt(self, conversation: Conversation, max_tokens: int, *, where: str) -> tuple[list[int], bool]:
        """What the model reads before it writes the next response, and whether something of it went."""
        fitted = self.fit(conversation, max_tokens, where=where)
        ids = [token for turn in fitted.turns for token in (*turn.before, *turn.response)]
        return ids, fitted.is_cut or fitted.responses_lost > 0

    def _head(self, conversation: Conversation) -> list[int]:
        """What stays at the beginning: the tokenizer's own, and a system message."""
        first = conversation.messages[0]
        return [*self._begin, *(self._text(first["content"]) if first["role"] == "system" else [])]

    def _joined(self, head: list[int], prompt: list[int]) -> list[int]:
        """A prompt behind what stays; the beginning stands there once, also where the template writes it itself."""
        is_there = bool(self._begin) and head == self._begin and prompt[: len(head)] == head
        return prompt if is_there else [*head, *prompt]

    def _prompt(self, content: str) -> list[int]:
        # As one text, so that words do not part at the template's edges; control tokens in it are the template's own.
        text = self._template.replace("{prompt}", marked(content, self._specials))
        return encode_marked(self._tokenizer, text)

    def _text(self, text: str) -> list[int]:
        return encode_marked(self._tokenizer, marked(text, self._specials))


def _check_order(conversation: Conversation, where: str) -> None:
    """A plain template has a place for prompts and responses alone: an optional system message, then both in turn."""
    messages = conversation.messages
    turns = messages[1:] if messages[0]["role"] == "system" else messages
    for number, message in enumerate(turns):
        expected = ("user", "assistant")[number % 2]
        if message["role"] != expected:
            raise DataError(
                f"message {number + 1 + len(messages) - len(turns)} is the {message['role']}'s, where the {expected}'s "
                "turn is",
                where=where,
                hint="The run was tuned without a chat template: after an optional system message, user and assistant "
                "take turns.",
            )
    unknown = [key for message in messages for key in ("tool_calls", *REASONING) if message.get(key)]
    if unknown or conversation.tools is not None:
        name = unknown[0] if unknown else "tools"
        raise DataError(f"`{name}` needs a chat template, and the run was tuned without one", where=where)

"""Conversations by the model's chat template: the template's own rendering, token for token.

The whole conversation is rendered once, and tokenised as a whole. What of it are responses is found by rendering its
beginnings: a response begins where the prompt before it ends, and ends where the template ends the turn. Templates that
write earlier turns otherwise once others follow (as reasoning models' do, whose thoughts they take out) are followed.
Where what stands before an earlier response is not what the model reads when it is to write that response, it is read
but not learned.

The template decides what stands before and behind the text: nothing is added to it, neither a beginning nor an end
token, as wherever such a model is used.

Many conversations have the same beginning, such as all responses to one chat: what it renders to, and its tokens, are
remembered.
"""

from __future__ import annotations

import datetime
import functools
import json
import re
import sys
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from peftlab.core.errors import DataError, UnsupportedError
from peftlab.core.time_limit import within
from peftlab.tasks.language.conversations import REASONING, WEIGHT, Conversation, Message
from peftlab.tasks.language.remembered import Remembered
from peftlab.tasks.language.rendering import Fitted, Turn, too_long
from peftlab.tasks.language.shortening import shorten, total_length
from peftlab.tasks.language.template_ends import end_of_calls, end_of_text
from peftlab.tasks.language.user_text import encode_marked, marked, pattern_of, special_tokens, unmarked

CLOCK = "strftime_now"
"""What templates call to ask for the date."""
RENDERING_SECONDS = 10.0
"""Of the processor; a short chat takes about 20 millionths of a second. A template that takes so much never ends."""
REMEMBERED_BYTES = 16_000_000
"""Of rendered beginnings, and of their tokens: those of a chat of a hundred turns and a hundred thousand characters."""


@dataclass(frozen=True)
class _Span:
    """A response in a rendered text, in characters."""

    start: int
    end: int
    is_learned: bool


def check_template(template: Any) -> None:
    """Refuse a tokenizer without a chat template.

    Raises:
        UnsupportedError: There is none.
    """
    if not template:
        raise UnsupportedError(
            "the data holds chats, and the model's tokenizer has no chat template",
            where="model.path",
            hint="Choose a model that was tuned for chats, or give prompts and responses as two columns.",
        )


def check_fields(conversation: Conversation, template: str, where: str) -> None:
    """Refuse what the template does not know: it would leave it out without a word.

    Raises:
        DataError: Naming the field.
    """
    unknown = []
    for message in conversation.messages:
        if any(message.get(key) for key in REASONING) and not any(key in template for key in REASONING):
            unknown.append(next(key for key in REASONING if message.get(key)))
        unknown += [key for key in ("tool_calls", "function_call") if message.get(key) and key not in template]
    if conversation.tools is not None and "tools" not in template:
        unknown.append("tools")
    if unknown:
        raise DataError(
            f"the row holds `{unknown[0]}`, which the model's chat template does not know and would leave out",
            where=where,
            hint=f"Remove `{unknown[0]}`, or choose a model whose template writes it.",
        )


class ChatTemplate:
    """Renders conversations by a tokenizer's chat template.

    Args:
        tokenizer: Of the model.
        date: What the template is told the time is, if it asks.

    Raises:
        UnsupportedError: The tokenizer has no chat template, or several of which none is the usual one.
    """

    def __init__(self, tokenizer: Any, date: datetime.datetime | None) -> None:
        check_template(tokenizer.chat_template)
        try:
            tokenizer.get_chat_template()
        except ValueError as error:  # it has several, and none is the usual one
            raise UnsupportedError(f"the tokenizer's chat template: {error}", where="model.path") from None
        self._tokenizer, self._date = tokenizer, date
        self._specials = pattern_of(special_tokens(tokenizer))
        self._texts: Remembered[str] = Remembered(REMEMBERED_BYTES, sys.getsizeof)
        self._tokens: Remembered[array[int]] = Remembered(REMEMBERED_BYTES, sys.getsizeof)

    @functools.cached_property
    def end_token_ids(self) -> list[int]:
        """The tokenizer's end token, and those with which the template ends a response, which may be others."""
        return [int(self._tokenizer.convert_tokens_to_ids(token)) for token in self._ends]

    def ends_among(self, token_ids: Iterable[int]) -> list[int]:
        """Of the end tokens that a checkpoint names, those that are control tokens here; no text holds them."""
        template = self._tokenizer.get_chat_template(tools=[{}])
        control = {int(self._tokenizer.convert_tokens_to_ids(token)) for token in self._control(template)}
        return [token for token in token_ids if token in control]

    @functools.cached_property
    def _ends(self) -> list[str]:
        found = [None if self._tokenizer.eos_token is None else str(self._tokenizer.eos_token)]
        render = functools.partial(self._render, where="the template")
        found.append(end_of_text(render, pattern_of(self._control(self._template(has_tools=False)))))
        with_tools = self._template(has_tools=True)
        if "tool_calls" in with_tools:
            found.append(end_of_calls(render, pattern_of(self._control(with_tools))))
        return list(dict.fromkeys(token for token in found if token))

    def _control(self, template: str) -> list[str]:
        """Tokens that the template writes to part a chat, and all that the tokenizer declares as special."""
        added = [token.content for token in self._tokenizer.added_tokens_decoder.values()]
        own = [token for token in added if token in template and not token.isspace()]
        return list(dict.fromkeys([*special_tokens(self._tokenizer), *own]))

    def turns(self, conversation: Conversation, *, where: str) -> list[Turn]:
        """The turns of a whole conversation.

        Raises:
            DataError: The template refuses the conversation or leaves a part of it out, or the response does not go on
                where its prompt ends.
        """
        messages, tools = self._prepared(conversation, where)
        text = self._render(messages, tools, where=where)
        self._check_nothing_lost(messages, tools, where)
        spans = self._spans(text, messages, tools, where)
        pieces = self._pieces(text[: spans[-1].end], [place for span in spans for place in (span.start, span.end)])
        return [
            Turn(before, response, span.is_learned)
            for before, response, span in zip(pieces[::2], pieces[1::2], spans, strict=True)
        ]

    def fit(self, conversation: Conversation, max_length: int, *, where: str) -> Fitted:
        """The turns, made to fit: the chat is rendered anew without its oldest turns; system messages stay."""
        whole = self.turns(conversation, where=where)
        if len(whole[-1].response) >= max_length:
            raise too_long(len(whole[-1].response), max_length, where=where)
        wanted = sum(each["role"] == "assistant" and WEIGHT not in each for each in conversation.messages)
        missing = wanted - _learned(whole)
        if total_length(whole) <= max_length:
            return Fitted(whole, responses_not_learned=missing)
        kept, is_cut = shorten(conversation, functools.partial(self.turns, where=where), max_length, where)
        return Fitted(kept, _learned(whole) - _learned(kept), is_cut, missing)

    def fit_prompt(self, conversation: Conversation, max_tokens: int, *, where: str) -> tuple[list[int], bool]:
        """What the model reads before it writes the next response, and whether something of it went."""
        render = functools.partial(self._open_turns, where=where)
        turns, changed = render(conversation), False
        if sum(map(len, turns)) > max_tokens:
            turns, _ = shorten(conversation, render, max_tokens, where)
            changed = True
        return [token for turn in turns for token in (*turn.before, *turn.response)], changed

    def _open_turns(self, conversation: Conversation, *, where: str) -> list[Turn]:
        """The turns of a conversation whose response is to be written; that of the last one is empty."""
        messages, tools = self._prepared(conversation, where)
        text = self._render(messages, tools, where=where, prompt=True)
        self._check_nothing_lost(messages, tools, where, prompt=True)
        spans = self._spans(text, messages, tools, where, is_open=True)
        pieces = self._pieces(text, [place for span in spans for place in (span.start, span.end)])
        before, last = pieces[:-1], pieces[-1]
        return [*(Turn(*pair) for pair in zip(before[::2], before[1::2], strict=True)), Turn(last, [])]

    # --- what the template makes of messages ------------------------------------------------------------------------

    def _prepared(self, conversation: Conversation, where: str) -> tuple[list[Message], list[Any] | None]:
        """Messages and tools with marks around control tokens that a person wrote; weights stay with the messages."""
        template = self._tokenizer.get_chat_template(tools=conversation.tools or None)
        check_fields(conversation, template, where)
        control = pattern_of(self._control(template))
        messages = [
            # The assistant may write control tokens that are not special, such as <think>: it is who writes them.
            {
                key: value if key == "role" else _marked_all(value, self._specials if by_assistant else control)
                for key, value in message.items()
            }
            for message in conversation.messages
            for by_assistant in [message["role"] == "assistant"]
        ]
        tools = None if conversation.tools is None else _marked_all(list(conversation.tools), control)
        return messages, tools

    def _render(
        self, messages: Sequence[Message], tools: Sequence[Any] | None, *, where: str, prompt: bool = False
    ) -> str:
        shown = [{key: value for key, value in message.items() if key != WEIGHT} for message in messages]
        return self._texts.get(
            json.dumps([shown, tools, prompt], default=repr), lambda: self._render_anew(shown, tools, where, prompt)
        )

    def _render_anew(self, shown: Sequence[Message], tools: Sequence[Any] | None, where: str, prompt: bool) -> str:
        def render() -> str:
            text: str = self._tokenizer.apply_chat_template(
                shown,
                tools=tools,
                tokenize=False,
                add_generation_prompt=prompt,
                chat_template=self._template(bool(tools)),
            )
            return text

        try:
            return within(RENDERING_SECONDS, render)
        except TimeoutError:
            raise UnsupportedError(
                f"the model's chat template has come to no end in {RENDERING_SECONDS:g} seconds ({where})",
                where="model.path",
                hint="A loop in it does not stop. Mend the template, or choose another model.",
            ) from None
        except Exception as error:  # noqa: BLE001 - it is the checkpoint's program, which may fail in every way
            raise DataError(
                f"the model's chat template refuses the messages: {unmarked(str(error)) or type(error).__name__}",
                where=where,
                hint="Change the row, or choose a model whose template takes such a conversation.",
            ) from None

    def _template(self, has_tools: bool) -> str:
        """The template; its clock stands still."""
        template: str = self._tokenizer.get_chat_template(tools=[{}] if has_tools else None)
        return template if self._date is None or CLOCK not in template else _with_date(template, self._date)

    def _check_nothing_lost(
        self, messages: Sequence[Message], tools: Sequence[Any] | None, where: str, *, prompt: bool = False
    ) -> None:
        """Refuse a template that passes over a message, as some do with roles that they do not know.

        It is rendered once more with a mark of its own behind each content: a template may trim or part a content, but
        where its mark is missing nothing of it was written.
        """
        traced = [
            {**message, "content": message["content"] + chr(TRACE + at)} if message["content"] else message
            for at, message in enumerate(messages)
        ]
        try:
            shown = self._render(traced, tools, where=where, prompt=prompt)
        except DataError:  # a content that the template reads as more than text
            return
        for at, message in enumerate(messages):
            if message["content"] and chr(TRACE + at) not in shown:
                raise DataError(
                    f"the model's chat template leaves out message {at + 1}, the {message['role']}'s",
                    where=where,
                    hint="Change its role, remove it, or choose a model whose template knows it.",
                )

    # --- where the responses are --------------------------------------------------------------------------------------

    def _spans(
        self,
        text: str,
        messages: Sequence[Message],
        tools: Sequence[Any] | None,
        where: str,
        *,
        is_open: bool = False,
    ) -> list[_Span]:
        """Places of the responses in a rendered text; of an open one, those before the prompt's end."""
        spans: list[_Span] = []
        for at, message in enumerate(messages):
            if message["role"] != "assistant" or at == 0:
                continue
            is_last = at == len(messages) - 1 and not is_open
            prompt = self._render(messages[:at], tools, where=where, prompt=True)
            if not text.startswith(prompt):
                if is_last:
                    raise DataError("the chat template's response does not begin where its prompt ends", where=where)
                continue
            whole = text if is_last else self._render(messages[: at + 1], tools, where=where)
            if is_last and len(prompt) == len(text):
                raise DataError("the chat template writes nothing of the response", where=where)
            end = self._end(text, len(prompt), whole, message["content"].strip()) or (len(text) if is_last else None)
            if end is None or (spans and len(prompt) < spans[-1].end):
                continue
            spans.append(_Span(len(prompt), end, is_learned=WEIGHT not in message))
        return spans

    def _end(self, text: str, start: int, alone: str, content: str) -> int | None:
        """Where the response that begins at ``start`` ends, behind its end token; None where that cannot be told.

        Args:
            text: The whole conversation.
            start: Of the response.
            alone: The conversation up to this response, rendered by itself.
            content: Of the response.
        """
        response = alone[start:] if text.startswith(alone) else _common(text[start:], alone[start:])
        if not (response and ((content and content in response) or response.rstrip().endswith(tuple(self._ends)))):
            # What the template writes behind the last turn only, such as a second end token, hides where it ends.
            first = pattern_of(self._ends).search(text, start)
            response = text[start : first.end()] if first is not None else ""
            if not response or response not in alone[start:]:
                return None
        stripped = response.rstrip()
        # What a template writes behind its end token, such as a line feed, belongs to the next prompt.
        return start + len(stripped if stripped.endswith(tuple(self._ends)) else response)

    # --- tokens -------------------------------------------------------------------------------------------------------

    def _pieces(self, text: str, places: Sequence[int]) -> list[list[int]]:
        """Tokens of a text as a whole, parted at some places.

        A place may lie within a token, where template and response have no control token between them. There the text
        is parted, so that a response's prompt has the same tokens in training as when the response is to be written.
        """
        pieces: list[list[int]] = []
        begin = done = 0
        ids = self._encode(text)
        for place in (*places, *([len(text)] if not places or places[-1] < len(text) else [])):
            before = self._encode(text[begin:place], goes_on=begin > 0)
            pieces.append(before[done:])
            done = len(before)
            if ids[:done] != before:
                begin, done = place, 0
                ids = self._encode(text[place:], goes_on=True)
        return pieces

    def _encode(self, text: str, *, goes_on: bool = False) -> list[int]:
        key = f"{goes_on}{text}"
        found = self._tokens.get(key, lambda: array("i", encode_marked(self._tokenizer, text, goes_on=goes_on)))
        return found.tolist()


TRACE = 0x100000
"""The first of the characters for private use that show whether a message was written."""


def _learned(turns: Sequence[Turn]) -> int:
    return sum(turn.is_learned for turn in turns)


def _common(text: str, alone: str) -> str | None:
    """The longest end of a turn, as it is rendered when it is the last one, with which the text goes on."""
    longest = min(len(text), len(alone))
    return next((alone[-size:] for size in range(longest, 0, -1) if text.startswith(alone[-size:])), None)


def _marked_all(value: Any, tokens: re.Pattern[str]) -> Any:
    """Marks in every text of a JSON value, names of its fields included."""
    if isinstance(value, str):
        return marked(value, tokens)
    if isinstance(value, Mapping):
        return {_marked_all(key, tokens): _marked_all(item, tokens) for key, item in value.items()}
    return [_marked_all(item, tokens) for item in value] if isinstance(value, list | tuple) else value


def _with_date(template: str, date: datetime.datetime) -> str:
    """The template, compiled so that its clock tells this date.

    transformers keeps compiled templates by their text, and lets no function through to them: so the date becomes a
    part of the text, in a comment that writes nothing, and the function is put beside that one compiled template.
    """
    from transformers.utils.chat_template_utils import _compile_jinja_template

    own = f"{template.removesuffix(chr(10))}{{# {date.isoformat()} #}}"  # jinja takes one line feed off the end
    compiled = _compile_jinja_template(own)
    compiled.globals[CLOCK] = date.strftime
    return own

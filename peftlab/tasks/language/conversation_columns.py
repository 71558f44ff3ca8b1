"""Where prompts, responses and chats stand in a table: the keys that say so, and the rows that they make."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from peftlab.core.splits import Split
from peftlab.tasks.language.conversations import (
    CONTEXT,
    RESPONSES,
    compared_parts,
    conversations_of_columns,
    conversations_of_messages,
    read_context,
    shown_text,
)
from peftlab.tasks.language.decoder import DecoderTask
from peftlab.tasks.language.plain_template import USUAL_TEMPLATE, PromptTemplate


class ConversationTask(DecoderTask):
    """A task whose rows are contexts, each with its responses."""

    why_not_rewritten: ClassVar[str] = "no text is changed: a row is a conversation, which has to stay whole"

    prompt: str = Field("prompt", description="The column of the prompt.")
    response: str = Field("response", description="The column of the response.")
    input: str | None = Field(
        None, description="A column of further input. It follows the prompt after a blank line, unless it is empty."
    )
    messages: str | None = Field(
        None,
        description="Instead of prompt and response: the column of chats, lists of {role, content} or {from, "
        "value}. The model's own chat template renders them. Assistant messages with weight 0 are not "
        "learned.",
    )
    tools: str = Field(
        "tools", description="With messages: the column of tools that the model may call, as JSON schemas."
    )
    layout: Literal["alpaca", "sharegpt"] | None = Field(
        None,
        description="alpaca: the columns instruction, input and output, with Alpaca's prompt. sharegpt: messages "
        "in the column conversations.",
    )
    chat: bool = Field(False, description="Render prompts and responses by the model's chat template too.")
    template: PromptTemplate = USUAL_TEMPLATE

    @model_validator(mode="after")
    def _one_layout(self) -> Self:
        # A run's resolved recipe says everything: only what differs from the default was meant.
        fields = type(self).model_fields
        chosen = {name for name, field in fields.items() if getattr(self, name) != field.default}
        if self.layout is not None and chosen & {"prompt", "response", "input", "messages"}:
            raise ValueError("`layout` already says what the columns are called")
        if self.messages is not None and chosen & {"prompt", "response", "input", "template"}:
            raise ValueError("with `messages` there is no prompt, response, input or template")
        return self

    @property
    def is_chat(self) -> bool:
        """Whether the model's chat template is used."""
        return self.chat or self.message_column is not None

    @property
    def message_column(self) -> str | None:
        """Of chats, where the rows are chats."""
        return "conversations" if self.layout == "sharegpt" else self.messages

    @property
    def columns(self) -> tuple[str, str, str | None]:
        """Prompt, response and input."""
        return (
            ("instruction", "output", "input") if self.layout == "alpaca" else (self.prompt, self.response, self.input)
        )

    def text_columns(self) -> tuple[str, ...]:
        """The context of the response."""
        return (CONTEXT,)

    def label_columns(self) -> tuple[str, ...]:
        """The responses, of which each row has one at least."""
        return (RESPONSES,)

    def source_columns(self) -> tuple[str, ...]:
        """The columns of the layout."""
        if self.message_column is not None:
            return (self.message_column, self.tools)
        return tuple(column for column in self.columns if column is not None)

    def optional_columns(self) -> tuple[str, ...]:
        """What an instruction is about; the tools of a chat."""
        if self.message_column is not None:
            return (self.tools,)
        extra = self.columns[2]
        return (extra,) if extra is not None else ()

    def arrange(self, split: Split) -> Split:
        """Contexts, each with all of its responses."""
        if self.message_column is not None:
            return conversations_of_messages(split, self.message_column, self.tools)
        prompt, response, extra = self.columns
        return conversations_of_columns(split, prompt=prompt, response=response, extra=extra)

    def shown_texts(self, split: Split) -> list[str]:
        """What is said."""
        return [shown_text(read_context(context)) for context in split.columns[CONTEXT]]

    def compared_texts(self, split: Split) -> list[Sequence[Any]]:
        """What each message of the context says and who says it, and all else that the template is given."""
        return [compared_parts(read_context(context)) for context in split.columns[CONTEXT]]

    def prompt_columns(self) -> tuple[str, ...]:
        """The prompt, or the messages; what a prompt is about is optional."""
        return (self.message_column or self.columns[0],)

    def prompt_row(self, text: str) -> dict[str, Any]:
        """The row of a single prompt."""
        is_message = self.message_column is not None
        return {self.prompt_columns()[0]: [{"role": "user", "content": text}] if is_message else text}

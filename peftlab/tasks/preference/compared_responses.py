"""What tasks over preferences have in common: where prompts and responses stand, and how they become tokens."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

from pydantic import Field

from peftlab.core.config import replace_config
from peftlab.core.model_facts import TokenizerFacts
from peftlab.core.splits import EncodedSplit, Split
from peftlab.core.task import Prediction, Task
from peftlab.tasks.language.chat_template import ChatTemplate
from peftlab.tasks.language.clock import TemplateDate, settled_date, template_time
from peftlab.tasks.language.conversations import CONTEXT, compared_parts, read_context, shown_text
from peftlab.tasks.language.plain_template import USUAL_TEMPLATE, PlainTemplate, PromptTemplate
from peftlab.tasks.language.rendering import Renderer
from peftlab.tasks.preference.course import margin_without_accuracy
from peftlab.tasks.preference.encoding import encode_preferences


class ComparedResponses(Task):
    """A task whose rows are contexts, each with responses that somebody has compared."""

    labels_are_texts: ClassVar[bool] = True

    prompt: str = Field(
        "prompt",
        description="The column of the prompt: a text, or a chat that ends with the user's turn. It may be missing "
        "where the sides are whole chats.",
    )
    chosen: str = Field("chosen", description="The column of the preferred response: a text, or a chat.")
    rejected: str = Field("rejected", description="The column of the other response.")
    chat: bool = Field(
        True, description="Render by the chat template, where the tokenizer has one; false: by `template`."
    )
    template: PromptTemplate = USUAL_TEMPLATE
    date: TemplateDate = None
    max_length: int = Field(
        512,
        ge=2,
        description="Tokens of a prompt and one response. Longer prompts lose their beginning, on both sides alike.",
    )
    drop_too_long: bool = Field(
        False, description="Leave out training rows whose response does not fit, and count them; false: an error."
    )

    def text_columns(self) -> tuple[str, ...]:
        """The context of the responses."""
        return (CONTEXT,)

    def optional_columns(self) -> tuple[str, ...]:
        """The prompt, which chats hold themselves."""
        return (self.prompt,)

    def shown_texts(self, split: Split) -> list[str]:
        """What is said."""
        return [shown_text(read_context(context)) for context in split.columns[CONTEXT]]

    def compared_texts(self, split: Split) -> list[Sequence[Any]]:
        """What each message of the context says and who says it."""
        return [compared_parts(read_context(context)) for context in split.columns[CONTEXT]]

    def at_time(self, now: datetime.datetime, tokenizer: TokenizerFacts | None, earlier: Task | None) -> Self:
        """Where the chat template has a clock, it tells this time."""
        known = earlier.date if isinstance(earlier, type(self)) else None
        return replace_config(self, date=settled_date(self.date, known, now, tokenizer)) if self.chat else self

    def encode(self, split: Split, tokenizer: Any, labels: tuple[str, ...]) -> EncodedSplit:
        """Prompt and response twice: of a pair with either response, of a lone one with that of another prompt too.

        A prompt that is too long is cut for both alike. ``input_ids`` holds both texts; ``lengths`` says how long each
        is, ``prompt_length`` where their responses begin.
        """
        drops = self.drop_too_long and split.name == "train"
        return encode_preferences(split, self.renderer(tokenizer), max_length=self.max_length, drop_too_long=drops)

    def longest(self) -> int:
        """Both texts as long as they may be."""
        return 2 * self.max_length

    def renderer(self, tokenizer: Any) -> Renderer:
        """Turns conversations into this model's tokens: by its chat template, where it has one."""
        if self.chat and tokenizer.chat_template:
            return ChatTemplate(tokenizer, template_time(self.date))
        return PlainTemplate(tokenizer, self.template)

    def decisions(self, prediction: Prediction) -> list[tuple[Any, Any]]:
        """None: a margin of rewards is no answer."""
        return []

    def course_notices(self, log: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
        """Margins that grow while the accuracy falls."""
        notice = margin_without_accuracy(log)
        return {} if notice is None else {"margin_without_accuracy": notice}

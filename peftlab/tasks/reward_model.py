"""Reward models: a number for each response to a prompt, learned from pairs of which one response is preferred.

The loss is that of Bradley and Terry (1952), as Ouyang et al. 2022 use it (https://arxiv.org/abs/2203.02155), with the
margins of Touvron et al. 2023 (https://arxiv.org/abs/2307.09288, equation 2) where rows have some.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import Field, model_validator

from peftlab.core.config import replace_config
from peftlab.core.errors import UnsupportedError
from peftlab.core.model_facts import ModelFacts, TokenizerFacts
from peftlab.core.splits import EncodedSplit, Example, Split
from peftlab.core.task import TASKS, Head, Prediction, Task
from peftlab.tasks.language.chat_template import ChatTemplate
from peftlab.tasks.language.clock import TemplateDate, has_clock, template_time
from peftlab.tasks.language.conversations import CONTEXT, compared_parts, read_context
from peftlab.tasks.language.plain_template import PlainTemplate
from peftlab.tasks.language.rendering import Renderer
from peftlab.tasks.preference.course import margin_without_accuracy
from peftlab.tasks.preference.encoding import encode_preferences, text_of
from peftlab.tasks.preference.rows import CHOSEN, MARGIN, REJECTED, arrange_inputs, arrange_pairs
from peftlab.tasks.text_inputs import check_length, pad, sequence_logits

if TYPE_CHECKING:
    from torch import Tensor, nn


@TASKS.register("reward_model")
class RewardModel(Task):
    """Learn a reward for responses from pairs of them (Bradley–Terry); reinforcement can use the run."""

    peft_task_type: ClassVar[str] = "SEQ_CLS"
    why_not_augmented: ClassVar[str] = "it compares responses to a prompt, which answer just that prompt"
    collates_ahead: ClassVar[bool] = True
    labels_are_texts: ClassVar[bool] = True
    metrics: ClassVar[tuple[str, ...]] = ("reward_accuracy", "reward_margin")

    prompt: str = Field(
        "prompt",
        description="The column of the prompt: a text, or a chat that ends with the user's turn. It may be missing "
        "where the sides are whole chats.",
    )
    chosen: str = Field("chosen", description="The column of the preferred response: a text, or a chat.")
    rejected: str = Field("rejected", description="The column of the other response.")
    response: str = Field("response", description="The column of a response that a tuned model is to judge.")
    margin: str | None = Field(
        None, description="A column that says by how much the chosen response is better. null: there is none."
    )
    centering: float = Field(
        0.0, ge=0, description="Weight of a term that keeps the sum of a pair's rewards near 0 (0.01 is usual)."
    )
    chat: bool = Field(
        True, description="Render by the chat template, where the tokenizer has one; false: by `template`."
    )
    template: str = Field(
        "{prompt}\n", description="How a prompt is written where no chat template is used; the response follows it."
    )
    date: TemplateDate = Field(
        None, description="What a chat template with a clock is told the time is. null: when the run began."
    )
    max_length: int = Field(
        512,
        ge=2,
        description="Tokens of a prompt and one response. Longer prompts lose their beginning, on both sides alike.",
    )
    drop_too_long: bool = Field(
        False, description="Leave out training rows whose response does not fit, and count them; false: an error."
    )

    @model_validator(mode="after")
    def _check_keys(self) -> RewardModel:
        if "{prompt}" not in self.template:
            raise ValueError("the template must hold `{prompt}`")
        if len({*self.source_columns()}) < len(self.source_columns()):
            raise ValueError("prompt, responses and margin must be different columns")
        return self

    # --- rows -------------------------------------------------------------------------------------------------------

    def text_columns(self) -> tuple[str, ...]:
        """The context of the responses."""
        return (CONTEXT,)

    def label_columns(self) -> tuple[str, ...]:
        """Both responses, and the margin."""
        return (CHOSEN, REJECTED, *((MARGIN,) if self.margin is not None else ()))

    def source_columns(self) -> tuple[str, ...]:
        """The columns as the recipe names them."""
        return (self.prompt, self.chosen, self.rejected, *((self.margin,) if self.margin is not None else ()))

    def optional_columns(self) -> tuple[str, ...]:
        """The prompt, which chats hold themselves."""
        return (self.prompt,)

    def number_columns(self) -> tuple[str, ...]:
        """The margin."""
        return () if self.margin is None else (self.margin,)

    def arrange(self, split: Split) -> Split:
        """A context and its responses for each row."""
        return arrange_pairs(split, prompt=self.prompt, chosen=self.chosen, rejected=self.rejected, margin=self.margin)

    def compared_texts(self, split: Split) -> list[Sequence[Any]]:
        """What each message of the context says and who says it."""
        return [compared_parts(read_context(context)) for context in split.columns[CONTEXT]]

    def check(self, facts: ModelFacts) -> None:
        """Refuse models that do not read from left to right, as those that write the responses do."""
        if facts.family in {"encoder", "encoder_decoder"}:
            raise UnsupportedError(
                f"{facts.path} ({facts.model_type}) does not read text from left to right",
                hint="Choose a GPT-like model.",
            )
        check_length(self.max_length, facts)

    def at_time(self, now: datetime.datetime, tokenizer: TokenizerFacts | None, earlier: Task | None) -> Self:
        """Where the chat template has a clock, it tells this time."""
        if self.date is not None or not (self.chat and has_clock(tokenizer)):
            return self
        told = earlier.date if isinstance(earlier, RewardModel) and earlier.date is not None else now.isoformat()
        return replace_config(self, date=told)

    def encode(self, split: Split, tokenizer: Any, labels: tuple[str, ...]) -> EncodedSplit:
        """Prompt and response twice: ``input_ids`` holds both texts, ``lengths`` says how long each is."""
        drops = self.drop_too_long and split.name == "train"
        return encode_preferences(split, self.renderer(tokenizer), max_length=self.max_length, drop_too_long=drops)

    def placeholder(self, length: int, labels: tuple[str, ...]) -> Example:
        """Two texts of like length."""
        return {"input_ids": [0] * length, "lengths": [length - length // 2, length // 2], "prompt_length": 1}

    def longest(self) -> int:
        """Both texts as long as they may be."""
        return 2 * self.max_length

    def input_columns(self) -> tuple[str, ...]:
        """A prompt and one response."""
        return (self.prompt, self.response)

    def encode_inputs(self, split: Split, tokenizer: Any, labels: tuple[str, ...]) -> EncodedSplit:
        """One text a row."""
        arranged = arrange_inputs(split, prompt=self.prompt, response=self.response)
        renderer = self.renderer(tokenizer)
        return encode_preferences(
            arranged, renderer, max_length=self.max_length, drop_too_long=False, with_others=False
        )

    def renderer(self, tokenizer: Any) -> Renderer:
        """Turns conversations into this model's tokens: by its chat template, where it has one."""
        if self.chat and tokenizer.chat_template:
            return ChatTemplate(tokenizer, template_time(self.date))
        return PlainTemplate(tokenizer, self.template)

    # --- objective --------------------------------------------------------------------------------------------------

    def head(self, labels: tuple[str, ...]) -> Head:
        """A new one with one output; how high rewards are, only ``centering`` asks."""
        return Head("AutoModelForSequenceClassification", {"num_labels": 1}, bias_trains=self.centering > 0)

    def collate(self, examples: Sequence[Example], pad_token_id: int) -> dict[str, Tensor]:
        """All first texts, then all second ones where there are some; ``margins`` (examples)."""
        import torch

        sides = len(examples[0]["lengths"])
        rows = [{"input_ids": text_of(each, side)["input_ids"]} for side in range(sides) for each in examples]
        margins = torch.tensor([float(example.get(MARGIN, 0.0)) for example in examples])
        return {**pad(rows, pad_token_id), "margins": margins}

    def logits(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """The reward of each text (texts × 1)."""
        return sequence_logits(model, batch)

    def loss(self, logits: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        """−log σ(r(chosen) − r(rejected) − margin), summed over the pairs."""
        from torch.nn.functional import logsigmoid

        chosen, rejected = logits.float().view(2, -1)
        losses = -logsigmoid(chosen - rejected - batch["margins"])
        total: Tensor = (losses + self.centering * (chosen + rejected).square()).sum()
        return total

    def loss_terms(self, batch: Mapping[str, Tensor]) -> int:
        """One term a pair."""
        return len(batch["margins"])

    # --- answers ----------------------------------------------------------------------------------------------------

    def predict(self, logits: Tensor, batch: Mapping[str, Tensor], labels: tuple[str, ...]) -> list[Prediction]:
        """The difference of a pair's rewards, with both as scores; of a lone response its reward."""
        rewards = logits.float().view(-1, len(batch["margins"])).T.tolist()
        return [Prediction(True, own[0] - own[1] if len(own) > 1 else own[0], own) for own in rewards]

    def course_notices(self, log: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
        """Margins that grow while the accuracy falls."""
        notice = margin_without_accuracy(log)
        return {} if notice is None else {"margin_without_accuracy": notice}

    def decisions(self, prediction: Prediction) -> list[tuple[Any, Any]]:
        """None: a difference of rewards is no answer."""
        return []

    def answer(self, prediction: Prediction, inputs: Mapping[str, Any], labels: tuple[str, ...]) -> dict[str, Any]:
        """The reward."""
        return {"prediction": prediction.prediction}

    def usage_note(self) -> str:
        """What the output means."""
        return "The output is a reward: only differences between responses to one prompt mean something."

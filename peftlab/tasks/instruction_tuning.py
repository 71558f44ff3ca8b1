"""Instruction tuning: learn to respond, from prompts with responses or from chats."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import Field, PositiveInt

from peftlab.core.config import replace_config
from peftlab.core.errors import ConfigError, DataError
from peftlab.core.model_facts import ModelFacts, TokenizerFacts
from peftlab.core.splits import EncodedSplit, Example, Split
from peftlab.core.task import TASKS, Head, Inference, Prediction, Scorer, Task
from peftlab.core.task_guess import Guesser
from peftlab.tasks._text_metrics import LOSS_METRICS, TEXT_METRICS, TextScorer, reachable
from peftlab.tasks._tokenizers import byte_pair_tokenizer
from peftlab.tasks.guesses.conversations import guess_responses
from peftlab.tasks.language.chat_template import ChatTemplate, check_fields, check_template
from peftlab.tasks.language.clock import TemplateDate, settled_date, template_time
from peftlab.tasks.language.conversation_columns import ConversationTask
from peftlab.tasks.language.conversations import (
    CONTEXT,
    RESPONSE_FIELDS,
    RESPONSES,
    Conversation,
    Message,
    check_tools,
    open_conversation,
    open_question,
    read_context,
    read_tools,
)
from peftlab.tasks.language.generation import generate_tokens, response_ends
from peftlab.tasks.language.packing import check_packing, pack, packed
from peftlab.tasks.language.perplexity import token_losses
from peftlab.tasks.language.plain_template import PlainTemplate
from peftlab.tasks.language.rendering import Fitted, Renderer, TooLongError, tokens_and_labels
from peftlab.tasks.language.source_target import (
    FAMILY,
    SourceTarget,
    check_encoder_decoder,
    shared_length,
    source_and_target,
)
from peftlab.tasks.language.user_text import text_tokens

if TYPE_CHECKING:
    from torch import Tensor, nn

ALPACA_TEMPLATE = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{prompt}\n\n### Response:\n"
)


@TASKS.register("instruction_tuning")
class InstructionTuning(ConversationTask):
    """Learn to respond to prompts or in chats; the loss is on the responses only."""

    guess: ClassVar[Guesser] = staticmethod(guess_responses)
    fewest_decisions: ClassVar[int] = 50  # a model that has begun to write says one thing to all for a while
    metrics: ClassVar[tuple[str, ...]] = (*LOSS_METRICS, *TEXT_METRICS)
    generates_text: ClassVar[bool] = True
    labels_are_texts: ClassVar[bool] = True
    writes_in_training: ClassVar[bool] = False
    """Whether training examples too hold a prompt to write a response to."""

    date: TemplateDate = None
    max_length: int = Field(
        512,
        ge=2,
        description="Most tokens of prompt and response. Longer chats lose their first turns, but no system "
        "message. Longer prompts lose their beginning.",
    )
    max_target_length: PositiveInt | None = Field(
        None,
        description="With an encoder-decoder: most tokens of a response; max_length is then for the prompt, which "
        "loses its end. null: as max_length.",
    )
    drop_too_long: bool = Field(
        False,
        description="Leave out training rows whose response does not fit, and count them. false: such rows "
        "are an error.",
    )
    packing: bool = Field(False, description="Put several training examples into one row. They do not see each other.")
    max_new_tokens: PositiveInt = Field(
        64,
        description="Most tokens of a generated response. Prompts are cut so that this much of max_length is free "
        "for it, but at most half.",
    )

    @property
    def supports_virtual_tokens(self) -> bool:
        """Only the first of several examples in a row would see them."""
        return not self.packing

    @property
    def _is_apart(self) -> bool:
        """Whether an encoder reads the prompt and a decoder writes the response."""
        return bool(self.learned.get(FAMILY) == "encoder_decoder")

    @property
    def _max_target(self) -> int:
        return self.max_target_length or self.max_length

    def check(self, facts: ModelFacts) -> None:
        """Refuse models that do not write text, or that would mix up packed examples."""
        if facts.family == "encoder_decoder":
            lengths = {"max_length": self.max_length, "max_target_length": self._max_target}
            check_encoder_decoder(facts, lengths=lengths, is_chat=self.is_chat, packing=self.packing)
            return
        super().check(facts)
        if self.max_target_length is not None:
            raise ConfigError(
                f"`max_target_length` is for encoder-decoders, and {facts.path} is none",
                where="task.max_target_length",
                hint="Leave it out: max_length is for prompt and response together.",
            )
        if self.packing:
            check_packing(facts)

    def learn_model(self, facts: ModelFacts) -> dict[str, Any]:
        """Whether it reads prompts by an encoder of their own."""
        return {FAMILY: facts.family} if facts.family == "encoder_decoder" else {}

    def peft_task(self) -> str:
        """Peft has a name of its own for encoder–decoders."""
        return "SEQ_2_SEQ_LM" if self._is_apart else super().peft_task()

    def head(self, labels: tuple[str, ...]) -> Head:
        """The language model's own."""
        return Head("AutoModelForSeq2SeqLM", {}, kind="own") if self._is_apart else super().head(labels)

    def length(self, example: Example) -> int:
        """Tokens of the row, or of prompt and response, where they have a row each."""
        return len(example["input_ids"]) + (len(example["labels"]) if self._is_apart else 0)

    def longest(self) -> int:
        """A full row, or two."""
        return self.max_length + (self._max_target if self._is_apart else 0)

    def padded_tokens(self, batch: Mapping[str, Tensor]) -> int:
        """Of the decoder's rows too, where there are some."""
        return super().padded_tokens(batch) + (batch["labels"].numel() if self._is_apart else 0)

    def check_split(self, split: Split, labels: tuple[str, ...]) -> None:
        """Rows were checked when they were arranged."""

    def why_not_measured(self, metric: str, split: Split, labels: tuple[str, ...]) -> str | None:
        """A metric that is 0 for the references themselves, as BLEU is for answers of less than four words."""
        references = split.columns[RESPONSES]
        if metric in LOSS_METRICS or reachable(metric, references) > 0:
            return None
        return "it is 0 even for the references themselves, which have too few words for it, or none that it knows"

    def check_tokenizer(self, split: Split, tokenizer: TokenizerFacts) -> None:
        """A chat needs a template, and one that knows what the messages hold."""
        if not self.is_chat:
            return
        check_template(tokenizer.chat_template)
        for row in range(len(split)):
            context = read_context(split.columns[CONTEXT][row])
            for content, fields in _responses(split, row):
                check_fields(context.with_response(content, fields), str(tokenizer.chat_template), split.where(row))

    def at_time(self, now: datetime.datetime, tokenizer: TokenizerFacts | None, earlier: Task | None) -> Self:
        """Where the chat template has a clock, it tells this time."""
        known = earlier.date if isinstance(earlier, InstructionTuning) else None
        return replace_config(self, date=settled_date(self.date, known, now, tokenizer)) if self.is_chat else self

    def build_tokenizer(self, train: Split, vocabulary_size: int) -> Any:
        """For a new encoder–decoder, which may begin with this task: byte-level BPE, trained on the training split."""
        if not self._is_apart:
            return super().build_tokenizer(train, vocabulary_size)
        contexts = (message["content"] for row in train.columns[CONTEXT] for message in read_context(row).messages)
        responses = (text for row in train.columns[RESPONSES] for text in row)
        return byte_pair_tokenizer((*contexts, *responses), vocabulary_size, ends=True)

    def encode(self, split: Split, tokenizer: Any, labels: tuple[str, ...]) -> EncodedSplit:
        """A training example for each response; elsewhere one for each row, with all its references."""
        renderer = self.renderer(tokenizer)
        notes: Counter[str] = Counter()
        examples: list[Example] = []
        index: list[int] = []
        is_training = split.name == "train"
        for row in range(len(split)):
            context, where = read_context(split.columns[CONTEXT][row]), split.where(row)
            responses = _responses(split, row)
            for content, fields in responses if is_training else responses[:1]:
                conversation = context.with_response(content, fields)
                fitted = self._fit(renderer, conversation, notes, where, is_training)
                if fitted is None:
                    continue
                example = source_and_target(fitted.turns) if self._is_apart else tokens_and_labels(fitted.turns)
                if not is_training or self.writes_in_training:
                    prompt = self._prompt(renderer, context, where)
                    notes["prompts_cut_for_generation"] += prompt["truncated"]
                    example |= {
                        "prompt_ids": prompt["input_ids"],
                        "truncated": prompt["truncated"],
                        "references": [
                            self._reference(renderer, context, *each, tokenizer=tokenizer, where=where)
                            for each in responses
                        ],
                    }
                examples.append(example)
                index.append(split.index[row])
        if not examples:
            raise DataError("no row is left: no response fits into max_length", where=split.source)
        if is_training and self.packing:
            rows = pack(examples, self.max_length)
            notes["examples_packed"] = len(examples)
            index = [index[row[0]] for row in rows]
            examples = [packed([examples[at] for at in row]) for row in rows]
        return EncodedSplit(split.name, index, examples, dict(notes))

    def _fit(
        self, renderer: Renderer, conversation: Conversation, notes: Counter[str], where: str, is_training: bool
    ) -> Fitted | None:
        try:
            fitted = renderer.fit(conversation, self.max_length, where=where)
        except TooLongError:
            if is_training and self.drop_too_long:
                notes["rows_dropped_response_too_long"] += 1
                return None
            raise
        ends, turns = renderer.end_token_ids, fitted.turns
        notes["chats_shortened"] += fitted.responses_lost > 0
        notes["earlier_responses_cut_away"] += fitted.responses_lost
        notes["prompt_ends_cut" if self._is_apart else "prompts_cut"] += fitted.is_cut
        notes["earlier_responses_not_learned"] += fitted.responses_not_learned
        notes["responses_without_end_token"] += turns[-1].response[-1] not in ends
        return fitted

    def _prompt(self, renderer: Renderer, context: Conversation, where: str) -> Example:
        """What is read before the next response is written.

        The room for it depends on no response: evaluation must not know more than a user's prompt tells.
        """
        room = 0 if self._is_apart else min(self.new_tokens(), self.max_length // 2)
        ids, truncated = renderer.fit_prompt(context, self.max_length - room, where=where)
        return {"input_ids": ids, "truncated": truncated}

    def _reference(
        self,
        renderer: Renderer,
        context: Conversation,
        content: str,
        fields: Mapping[str, Any],
        *,
        tokenizer: Any,
        where: str,
    ) -> str:
        """What a model that has learned a response writes: thoughts and calls of tools as the template writes them.

        Where the template writes no more than the content, it is the content.
        """
        if not self.is_chat:
            return content
        response = renderer.turns(context.with_response(content, fields), where=where)[-1].response
        written = self.written_text([token for token in response if token not in renderer.end_token_ids], tokenizer)
        same = self.written_text(text_tokens(tokenizer, content), tokenizer)
        return content if written == same else written

    def renderer(self, tokenizer: Any) -> Renderer:
        """Turns conversations into this model's tokens."""
        if self.is_chat:
            return ChatTemplate(tokenizer, template_time(self.date))
        template = ALPACA_TEMPLATE if self.layout == "alpaca" else self.template
        if self._is_apart:
            return SourceTarget(tokenizer, template, self._max_target)
        return PlainTemplate(tokenizer, template)

    def placeholder(self, length: int, labels: tuple[str, ...]) -> Example:
        """A row that is full, with a label on every token."""
        if self._is_apart:
            return shared_length(length, self.max_length, self._max_target)
        example = super().placeholder(length, labels)
        return packed([example]) if self.packing else example

    def prompts(self, split: Split, tokenizer: Any) -> list[Example]:
        """Tokens before the response, cut as in evaluation."""
        renderer, (column,), prompts = self.renderer(tokenizer), self.prompt_columns(), []
        extra = None if self.message_column is not None else self.columns[2]
        for row in range(len(split)):
            where = split.where(row)
            if self.message_column is not None:
                messages = open_conversation(split.columns[column][row], where)
                conversation = Conversation(messages, read_tools(split, row, self.tools))
            else:
                conversation = Conversation(open_question(split, row, prompt=column, extra=extra))
            prompts.append(self._prompt(renderer, conversation, where))
        return prompts

    def conversation_prompt(
        self, messages: Sequence[Message], tokenizer: Any, tools: Sequence[Any] | None = None
    ) -> Example:
        """Tokens before the response to the last message, cut as in evaluation."""
        conversation = Conversation(open_conversation(list(messages), "messages"), check_tools(tools, "tools"))
        return self._prompt(self.renderer(tokenizer), conversation, "messages")

    def new_tokens(self) -> int:
        """As the recipe says."""
        return self.max_new_tokens

    def written_text(self, ids: Sequence[int], tokenizer: Any) -> str:
        """A response without the blanks around it, which no metric counts."""
        return super().written_text(ids, tokenizer).strip()

    def predict_examples(
        self, model: nn.Module, examples: Sequence[Example], pad_token_id: int, inference: Inference
    ) -> list[Prediction]:
        """The generated response beside all references; the summed loss of the first reference, and its tokens."""
        losses = token_losses(model, examples, pad_token_id, inference)
        texts: list[str | None] = [None] * len(examples)
        if inference.metric not in LOSS_METRICS:
            prompts = [example["prompt_ids"] for example in examples]
            ends = response_ends(self.renderer(inference.tokenizer), model)
            written = generate_tokens(model, prompts, inference, max_new_tokens=self.max_new_tokens, ends=ends)
            texts = [self.written_text(ids, inference.tokenizer) for ids in written]
        return [
            Prediction(label=list(example["references"]), prediction=text, scores=[sum(each), float(len(each))])
            for example, text, each in zip(examples, texts, losses, strict=True)
        ]

    def decisions(self, prediction: Prediction) -> list[tuple[Any, Any]]:
        """The text, where one was written."""
        return [] if prediction.prediction is None else super().decisions(prediction)

    def scorer(self, labels: tuple[str, ...]) -> Scorer:
        """Metrics of text, and the loss."""
        return TextScorer()


def _responses(split: Split, row: int) -> list[tuple[str, Mapping[str, Any]]]:
    """The responses of a row, each with what it holds beside its content."""
    contents = split.columns[RESPONSES][row]
    fields = split.columns[RESPONSE_FIELDS][row] if RESPONSE_FIELDS in split.columns else [{}] * len(contents)
    return list(zip(contents, fields, strict=True))

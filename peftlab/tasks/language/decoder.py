"""What the language tasks share: a model that predicts tokens of its vocabulary, and texts that it writes.

In a batch of these tasks ``labels`` (batch × length) holds, at each position, the token that the hidden state *there*
is to predict, or ``IGNORED``: for language models that read from left to right the labels are shifted when the batch
is made. :mod:`peftlab.tasks.language.vocabulary_head` has the logits and the loss.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from peftlab.core.capabilities import GeneratesText
from peftlab.core.errors import DataError, UnsupportedError
from peftlab.core.model_facts import ModelFacts
from peftlab.core.splits import Example, Split
from peftlab.core.task import Head, Prediction, Task
from peftlab.tasks.language.conversations import Conversation, Message
from peftlab.tasks.language.generation import decode_tokens
from peftlab.tasks.language.plain_template import PlainTemplate
from peftlab.tasks.language.rendering import Renderer
from peftlab.tasks.language.vocabulary_head import LABEL_WEIGHTS, labelled_logits, labelled_loss, targets
from peftlab.tasks.text_inputs import IGNORED, PADDING, check_length, pad

if TYPE_CHECKING:
    from torch import Tensor, nn

NEW_TOKENS = 64
"""Where a generated text is cut, for tasks without a key for it."""


class LanguageTask(Task):
    """What all tasks have in common whose model predicts tokens of its vocabulary."""

    predicts_from_logits: ClassVar[bool] = False
    why_not_augmented: ClassVar[str] = "its model learns to write, and would learn to write changed texts"

    def label_columns(self) -> tuple[str, ...]:
        """None: the text itself is what is to be predicted."""
        return ()

    def learn_labels(self, train: Split) -> tuple[str, ...]:
        """There are no classes."""
        return ()

    def placeholder(self, length: int, labels: tuple[str, ...]) -> Example:
        """Every token carries a label: the most that there can be."""
        return {"input_ids": [0] * length, "labels": [0] * length}

    def collate(self, examples: Sequence[Example], pad_token_id: int) -> dict[str, Tensor]:
        """Padded tokens and labels (batch × length), their places, and position ids where they are the task's own."""
        return pad_language(examples, pad_token_id)

    def logits(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """Logits where something is to be predicted: labels × vocabulary."""
        return labelled_logits(model, batch)

    def loss(self, logits: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        """Cross-entropy, summed over the labels."""
        from torch.nn import functional

        terms = self.class_terms(logits, batch)
        return functional.cross_entropy(*terms, reduction="sum", label_smoothing=self.label_smoothing)

    @property
    def has_class_targets(self) -> bool:
        """The next token, or the masked one."""
        return True

    def class_terms(self, logits: Tensor, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """One term a label: its logits over the vocabulary, and the token."""
        return logits.float(), targets(batch)

    def training_loss(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """The same sum, in chunks."""
        return labelled_loss(model, batch, label_smoothing=self.label_smoothing)

    def loss_terms(self, batch: Mapping[str, Tensor]) -> int:
        """One term a label."""
        weights = batch.get(LABEL_WEIGHTS)
        return len(batch["label_rows"]) if weights is None else int(weights.sum())

    def predict(self, logits: Tensor, batch: Mapping[str, Tensor], labels: tuple[str, ...]) -> list[Prediction]:
        """What these tasks predict needs more than logits: see ``predict_examples``.

        Raises:
            NotImplementedError: Always.
        """
        raise NotImplementedError(f"{self.registered_name} is asked through `predict_examples`")


class DecoderTask(LanguageTask):
    """A language task for models that read from left to right."""

    peft_task_type: ClassVar[str] = "CAUSAL_LM"
    collates_ahead: ClassVar[bool] = True
    padding: ClassVar[Mapping[str, int]] = {**PADDING, "labels": IGNORED}
    capabilities: ClassVar[tuple[type, ...]] = (GeneratesText,)

    def lengthened(self, batch: Mapping[str, Tensor], length: int, pad_token_id: int) -> dict[str, Tensor]:
        """Longer rows, and one of few numbers of labels; those that are added weigh nothing."""
        return with_more_labels(super().lengthened(batch, length, pad_token_id))

    def check(self, facts: ModelFacts) -> None:
        """Refuse models that do not write from left to right, and lengths beyond their positions."""
        if facts.family in {"encoder", "encoder_decoder"}:
            raise UnsupportedError(
                f"{facts.path} ({facts.model_type}) does not write text from left to right",
                hint="Choose a GPT-like model.",
            )
        check_length(getattr(self, "max_length", 1), facts)

    def head(self, labels: tuple[str, ...]) -> Head:
        """The language model's own."""
        return Head("AutoModelForCausalLM", {}, kind="own")

    def renderer(self, tokenizer: Any) -> Renderer:
        """How what a user says becomes tokens; by default the model goes on with it as it is."""
        return PlainTemplate(tokenizer, "{prompt}")

    def prompt_columns(self) -> tuple[str, ...]:
        """The columns that a text is to be written for."""
        return self.text_columns()

    def prompt_row(self, text: str) -> dict[str, Any]:
        """The row of a text that stands alone; where there are several columns, tabs part them.

        Raises:
            DataError: There are not as many texts as columns.
        """
        columns = self.prompt_columns()
        parts = text.split("\t") if len(columns) > 1 else [text]
        if len(parts) != len(columns):
            raise DataError(f"the task takes {' and '.join(columns)} with a tab between them")
        return dict(zip(columns, parts, strict=True))

    def prompts(self, split: Split, tokenizer: Any) -> list[Example]:
        """Each row's prompt, as it stood before what was learned: ``input_ids``, and ``truncated`` where it was cut.

        Raises:
            DataError: A row has no prompt.
            UnsupportedError: The task's settings allow no generation.
        """
        (column,) = self.prompt_columns()
        renderer, prompts = self.renderer(tokenizer), list[Example]()
        for row, text in enumerate(split.columns[column]):
            where = split.where(row)
            if not text:
                raise DataError(f"the column `{column}` is empty", where=where, hint="A prompt is needed.")
            conversation = Conversation([{"role": "user", "content": text}])
            prompts.append({"input_ids": renderer.fit_prompt(conversation, sys.maxsize, where=where)[0]})
        return prompts

    def conversation_prompt(
        self, messages: Sequence[Message], tokenizer: Any, tools: Sequence[Any] | None = None
    ) -> Example:
        """The prompt of a conversation whose next message is to be written.

        Raises:
            UnsupportedError: The task has not learned from conversations.
        """
        raise UnsupportedError(
            f"a run of {self.registered_name} continues a text, and takes no messages", hint="Give a text instead."
        )

    def new_tokens(self) -> int:
        """Where a generated text is cut that does not end by itself."""
        return NEW_TOKENS

    def written_text(self, ids: Sequence[int], tokenizer: Any) -> str:
        """The text of generated tokens."""
        return decode_tokens(tokenizer, ids)


def pad_language(examples: Sequence[Example], pad_token_id: int) -> dict[str, Tensor]:
    """Pad on the right: ``input_ids``, ``attention_mask``, ``labels``, ``position_ids`` where there are some.

    ``label_rows`` and ``label_columns`` say where the labels are, row by row. They are looked up here, on CPU: a GPU
    would have to be waited for, and shapes alone, of which estimates are made, do not tell.

    Examples in a row that must not see each other have position ids that start anew with each of them. Then
    ``text_bounds`` holds where each begins, and the last ends, if all rows stand behind one another; see
    :func:`language_inputs`.
    """
    import torch

    batch = pad(examples, pad_token_id)
    longest = batch["input_ids"].shape[1]
    labelled = max(len(example["labels"]) for example in examples)  # another length where a decoder has its own rows
    batch["labels"] = torch.tensor(
        [[*example["labels"], *[IGNORED] * (labelled - len(example["labels"]))] for example in examples]
    )
    batch["label_rows"], batch["label_columns"] = (batch["labels"] != IGNORED).nonzero(as_tuple=True)
    if "position_ids" in examples[0]:
        rows = [[*example["position_ids"], *range(longest - len(example["position_ids"]))] for example in examples]
        batch["position_ids"] = torch.tensor(rows)
    if "packed" in examples[0]:
        begins = (batch["position_ids"].flatten() == 0).nonzero().flatten()
        batch["text_bounds"] = torch.cat([begins, torch.tensor([batch["input_ids"].numel()])]).int()
    return batch


def with_more_labels(batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """As many places for labels as there are tokens, or a half or a quarter of them: batches of so few kinds.

    ``label_weights`` is 0 for those that are added, all of which are the first token's, and 1 for the others.
    """
    import torch

    count, tokens = len(batch["label_rows"]), batch["input_ids"].numel()
    wanted = next(places for places in (-(-tokens // 4), -(-tokens // 2), tokens) if places >= count)
    places = {key: torch.nn.functional.pad(batch[key], (0, wanted - count)) for key in ("label_rows", "label_columns")}
    return {**batch, **places, LABEL_WEIGHTS: (torch.arange(wanted) < count).float()}


def shifted(input_ids: Sequence[int], first: int) -> list[int]:
    """Labels for a model that reads from left to right: the next token, from the token at ``first`` on."""
    return [*[IGNORED] * (first - 1), *input_ids[first:], IGNORED]

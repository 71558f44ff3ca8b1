"""What the language tasks share: the head over the vocabulary, computed only where there is something to predict.

In a batch of these tasks ``labels`` (batch × length) holds, at each position, the token that the hidden state *there*
is to predict, or ``IGNORED``: for language models that read from left to right the labels are shifted when the batch
is made. The head's matrix has tens of thousands of rows, so most of the memory and a good part of the time of tuning a
small language model go into logits that nobody asked for, of the prompt's tokens. Here the hidden states are picked
before the head, and the loss is taken in chunks whose logits are freed at once (as in Liger,
https://arxiv.org/abs/2410.10989). The sums are the same.
"""

from __future__ import annotations

import contextlib
import inspect
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from peftlab.core.capabilities import GeneratesText
from peftlab.core.errors import DataError, UnsupportedError
from peftlab.core.model_facts import ModelFacts
from peftlab.core.splits import Example, Split
from peftlab.core.task import Head, Prediction, Task
from peftlab.tasks._text import IGNORED, check_length, model_inputs, pad
from peftlab.tasks.language.conversations import Conversation, Message
from peftlab.tasks.language.generation import decode_tokens
from peftlab.tasks.language.plain_template import PlainTemplate
from peftlab.tasks.language.rendering import Renderer

if TYPE_CHECKING:
    from torch import Tensor, nn

CHUNK_ELEMENTS = 1 << 23
"""Logits that are held at once: 32 MiB in float32."""
NEW_TOKENS = 64
"""Where a generated text is cut, for tasks without a key for it."""
SCALED_LOGITS = ("final_logit_softcapping", "logit_scale", "logits_scaling", "lm_head_multiplier")
"""Settings of models that change the logits after the head: there the whole head is left to the model."""


class LanguageTask(Task):
    """What all tasks have in common whose model predicts tokens of its vocabulary."""

    predicts_from_logits: ClassVar[bool] = False

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

        return functional.cross_entropy(logits.float(), _targets(batch), reduction="sum")

    def training_loss(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """The same sum, in chunks."""
        return labelled_loss(model, batch)

    def loss_terms(self, batch: Mapping[str, Tensor]) -> int:
        """One term a label."""
        return len(batch["label_rows"])

    def predict(self, logits: Tensor, batch: Mapping[str, Tensor], labels: tuple[str, ...]) -> list[Prediction]:
        """What these tasks predict needs more than logits: see ``predict_examples``.

        Raises:
            NotImplementedError: Always.
        """
        raise NotImplementedError(f"{self.registered_name} is asked through `predict_examples`")


class DecoderTask(LanguageTask):
    """A language task for models that read from left to right."""

    peft_task_type: ClassVar[str] = "CAUSAL_LM"
    capabilities: ClassVar[tuple[type, ...]] = (GeneratesText,)

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
        return Head("AutoModelForCausalLM", {}, is_new=False)

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
            f"a run of {self.registered_name} goes on with a text; it takes no messages", hint="Give a text instead."
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
    batch["labels"] = torch.tensor(
        [[*example["labels"], *[IGNORED] * (longest - len(example["labels"]))] for example in examples]
    )
    batch["label_rows"], batch["label_columns"] = (batch["labels"] != IGNORED).nonzero(as_tuple=True)
    if "position_ids" in examples[0]:
        rows = [[*example["position_ids"], *range(longest - len(example["position_ids"]))] for example in examples]
        batch["position_ids"] = torch.tensor(rows)
    if "packed" in examples[0]:
        begins = (batch["position_ids"].flatten() == 0).nonzero().flatten()
        batch["text_bounds"] = torch.cat([begins, torch.tensor([batch["input_ids"].numel()])]).int()
    return batch


def shifted(input_ids: Sequence[int], first: int) -> list[int]:
    """Labels for a model that reads from left to right: the next token, from the token at ``first`` on."""
    return [*[IGNORED] * (first - 1), *input_ids[first:], IGNORED]


def language_inputs(model: nn.Module, batch: Mapping[str, Tensor]) -> dict[str, Any]:
    """The part of a batch that the model takes.

    A row of several examples comes without an attention mask: transformers then draws their borders from position ids
    that start anew, if there is no cache. FlashAttention alone is told the borders in words: it would look for them in
    batches of one row only. So do texts that are read from left to right come without a mask: what they are padded
    with stands to their right, where no token looks, and without a mask attention is computed faster and takes less
    memory. A cache is of no use in training and only holds copies of keys and values.
    """
    inputs: dict[str, Any] = model_inputs(batch)
    inner = language_model(model)
    if "position_ids" in batch:
        inputs["position_ids"] = batch["position_ids"]
        if "flash" in (inner.config._attn_implementation or ""):
            inputs |= _flash_bounds(batch)
    if "text_bounds" in batch or ("position_ids" not in batch and _reads_from_left(inner)):
        del inputs["attention_mask"]
    if "use_cache" in inspect.signature(inner.forward).parameters:
        inputs["use_cache"] = False
    return inputs


def _flash_bounds(batch: Mapping[str, Tensor]) -> dict[str, Any]:
    """Where FlashAttention's texts begin and end, counted through all rows; a row that is not packed is one text.

    Without them it takes every step back in the positions of a lone row for the beginning of another text, and none in
    a batch of several rows. The longest text is only needed as a bound, and a row's length is known without waiting
    for the device.
    """
    import torch

    rows, length = batch["input_ids"].shape
    bounds = batch.get("text_bounds")
    if bounds is None:
        bounds = torch.arange(0, rows * length + 1, length, dtype=torch.int32, device=batch["input_ids"].device)
    return {"cu_seq_lens_q": bounds, "cu_seq_lens_k": bounds, "max_length_q": length, "max_length_k": length}


def _reads_from_left(model: Any) -> bool:
    is_decoder = (
        not type(model).__name__.endswith("ForMaskedLM") and getattr(model.config, "is_causal", None) is not False
    )
    return is_decoder and not getattr(model.config, "use_bidirectional_attention", None)


def labelled_logits(model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
    """Logits where there is a label: labels × vocabulary, in the order of the batch's rows."""
    with _picked_states(model, batch, keep_head=True):
        logits: Tensor = model(**language_inputs(model, batch)).logits
    return logits


def labelled_loss(model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
    """Cross-entropy, summed over the labels; where acceleration is not off, in chunks of which one is held."""
    from torch.nn import functional

    labels = _targets(batch)
    states, head = _states(model, batch)
    if states is None:
        return functional.cross_entropy(labelled_logits(model, batch).float(), labels, reduction="sum")
    from peftlab.tasks.language.chunked_loss import chunked_cross_entropy

    return chunked_cross_entropy(states, head.weight, head.bias, labels, _rows(head))


def score_labels(model: nn.Module, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """For every label: minus its log-probability, and the most likely token there; both of length labels."""
    import torch

    labels = _targets(batch)
    states, head = _states(model, batch)
    if states is None:
        chunks: Any = [labelled_logits(model, batch)]
    else:
        chunks = (head(part) for part in torch.split(states, _rows(head)))
    losses, choices = [], []
    start = 0
    for logits in chunks:
        part = labels[start : start + len(logits)]
        start += len(logits)
        losses.append(torch.nn.functional.cross_entropy(logits.float(), part, reduction="none"))
        choices.append(logits.argmax(dim=-1))
    return torch.cat(losses), torch.cat(choices)


def output_head(model: nn.Module) -> Any:
    """The module that turns hidden states into logits over the vocabulary, under whatever wraps the model."""
    return language_model(model).get_output_embeddings()


def language_model(model: nn.Module) -> Any:
    """The transformers model with the head, under whatever wraps it."""
    from transformers import PreTrainedModel

    return next(module for module in model.modules() if isinstance(module, PreTrainedModel))


def _states(model: nn.Module, batch: Mapping[str, Tensor]) -> tuple[Tensor | None, Any]:
    """The hidden states that have a label, and the head; None for the states where the head must not be taken apart."""
    from torch import nn

    from peftlab.acceleration.accelerated import is_off
    from peftlab.acceleration.onednn import OneDnnLinear
    from peftlab.core.added_rows import has_rows_apart

    head = output_head(model)
    config = language_model(model).config
    is_plain = type(head) in (nn.Linear, OneDnnLinear)
    is_scaled = any(getattr(config, name, None) not in (None, 1, 1.0) for name in SCALED_LOGITS)
    if has_rows_apart(head) or not is_plain or is_scaled or is_off(model):
        return None, head
    with _picked_states(model, batch, keep_head=False) as picked:
        model(**language_inputs(model, batch))
    return picked[0], head


def _targets(batch: Mapping[str, Tensor]) -> Tensor:
    """The labels themselves, row by row."""
    return batch["labels"][batch["label_rows"], batch["label_columns"]]


def _rows(head: Any) -> int:
    """Rows of a chunk."""
    return max(1, CHUNK_ELEMENTS // int(head.weight.shape[0]))


@contextlib.contextmanager
def _picked_states(model: nn.Module, batch: Mapping[str, Tensor], *, keep_head: bool) -> Iterator[list[Tensor]]:
    """Give the head only the hidden states that have a label, or none at all; they are put into the list."""
    picked: list[Tensor] = []
    length, wanted = batch["labels"].shape[1], (batch["label_rows"], batch["label_columns"])

    def pick(_module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        states = inputs[0][:, -length:][wanted]  # virtual tokens stand before the text
        picked.append(states)
        return (states if keep_head else states[:0].detach(), *inputs[1:])

    handle = output_head(model).register_forward_pre_hook(pick)
    try:
        yield picked
    finally:
        handle.remove()

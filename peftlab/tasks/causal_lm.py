"""Causal language modelling: pre-training on raw text, from a checkpoint or from nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from peftlab.core.errors import DataError
from peftlab.core.splits import EncodedSplit, Example, Split
from peftlab.core.task import TASKS, Inference, Prediction, Scorer
from peftlab.core.task_guess import Guesser
from peftlab.tasks._tokenizers import byte_pair_tokenizer
from peftlab.tasks.guesses.plain_text import guess_texts_alone
from peftlab.tasks.language.blocks import Blocks, TokenStream
from peftlab.tasks.language.decoder import DecoderTask, shifted
from peftlab.tasks.language.perplexity import PerplexityScorer, predict_losses
from peftlab.tasks.language.user_text import added_around
from peftlab.tasks.text_inputs import refuse_lists

if TYPE_CHECKING:
    from torch import nn


@TASKS.register("causal_lm")
class CausalLm(DecoderTask):
    """Predict the next token of raw text: pre-training of GPT-like models."""

    guess: ClassVar[Guesser] = staticmethod(guess_texts_alone)
    metrics: ClassVar[tuple[str, ...]] = ("perplexity", "loss", "perplexity_low", "perplexity_high")

    text: str = Field("text", description="The column of the text. Text files have the column `text`.")
    max_length: int = Field(256, ge=2, description="Tokens in a block.")

    def text_columns(self) -> tuple[str, ...]:
        """The column of the text."""
        return (self.text,)

    def check_split(self, split: Split, labels: tuple[str, ...]) -> None:
        """Any text will do, but no list."""
        refuse_lists(split, self.text_columns())

    def build_tokenizer(self, train: Split, vocabulary_size: int) -> Any:
        """Byte-level BPE, trained on the training split."""
        return byte_pair_tokenizer(train.columns[self.text], vocabulary_size)

    def encode(self, split: Split, tokenizer: Any, labels: tuple[str, ...]) -> EncodedSplit:
        """Rows one after the other, an end-of-text token after each, cut into blocks.

        Each row begins as the tokenizer begins a text, such as with ``<s>``; where that is the end-of-text token too,
        one stands between two rows.

        A block begins with the last token of the one before, so that every token is predicted once.
        """
        opening, _ = added_around(tokenizer)
        stream = TokenStream(split.columns[self.text], tokenizer, separator=tokenizer.eos_token_id, opening=opening)
        if len(stream.tokens) < 2:
            raise DataError(f"the {split.name} split has too little text", where=split.source)

        def make(start: int, stop: int) -> Example:
            ids = stream.tokens[start:stop].tolist()
            return {"input_ids": ids, "labels": shifted(ids, 1)}

        return Blocks(stream, length=self.max_length, overlap=1, make=make).as_split(split)

    def predict_examples(
        self, model: nn.Module, examples: Sequence[Example], pad_token_id: int, inference: Inference
    ) -> list[Prediction]:
        """The loss of each block."""
        return predict_losses(model, examples, pad_token_id, inference)

    def decisions(self, prediction: Prediction) -> list[tuple[Any, Any]]:
        """None: texts are scored by their loss."""
        return []

    def scorer(self, labels: tuple[str, ...]) -> Scorer:
        """Perplexity."""
        return PerplexityScorer()

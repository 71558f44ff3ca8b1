"""Masked language modelling: BERT's pre-training on raw text, with whole words masked."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from peftlab.core.errors import DataError, UnsupportedError
from peftlab.core.model_facts import ModelFacts
from peftlab.core.splits import EncodedSplit, Example, Split
from peftlab.core.task import TASKS, Head, Inference, Prediction, Scorer
from peftlab.core.task_guess import Guesser
from peftlab.tasks._tokenizers import byte_pair_tokenizer
from peftlab.tasks.guesses.plain_text import guess_gaps
from peftlab.tasks.language.blocks import Blocks, TokenStream
from peftlab.tasks.language.decoder import LanguageTask, pad_language
from peftlab.tasks.language.perplexity import PerplexityScorer, predict_losses
from peftlab.tasks.text_inputs import IGNORED, check_length, refuse_lists

if TYPE_CHECKING:
    from torch import Tensor, nn

KEPT, REPLACED = 0.1, 0.1
"""Of the chosen words, these shares stay as they are, or become random tokens (Devlin et al. 2019, section 3.1)."""


@TASKS.register("masked_lm")
class MaskedLm(LanguageTask):
    """Fill in masked words of raw text: pre-training of BERT-like models."""

    guess: ClassVar[Guesser] = staticmethod(guess_gaps)
    why_no_answers: ClassVar[str] = "learns to fill gaps: of a whole text it says nothing"
    peft_task_type: ClassVar[str] = "FEATURE_EXTRACTION"  # peft has no name for it; this one leaves the model as it is
    metrics: ClassVar[tuple[str, ...]] = ("perplexity", "loss", "perplexity_low", "perplexity_high")

    text: str = Field("text", description="The column of the text. Text files have the column `text`.")
    max_length: int = Field(128, ge=4, description="Tokens in a block.")
    mask_fraction: float = Field(0.15, gt=0, lt=1, description="Share of the words to predict.")
    whole_words: bool = Field(True, description="Mask all tokens of a word together. false: each token by itself.")

    def text_columns(self) -> tuple[str, ...]:
        """The column of the text."""
        return (self.text,)

    def check(self, facts: ModelFacts) -> None:
        """Refuse models that do not read both ways, and lengths beyond their positions."""
        if facts.family in {"decoder", "encoder_decoder"}:
            raise UnsupportedError(
                f"{facts.path} ({facts.model_type}) does not read both ways",
                hint="Choose a BERT-like model, or the task causal_lm.",
            )
        check_length(self.max_length, facts)

    def check_split(self, split: Split, labels: tuple[str, ...]) -> None:
        """Any text will do, but no list."""
        refuse_lists(split, self.text_columns())

    def head(self, labels: tuple[str, ...]) -> Head:
        """The language model's own; what of it the checkpoint lacks is new."""
        return Head("AutoModelForMaskedLM", {}, kind="own", may_be_missing=True)

    def build_tokenizer(self, train: Split, vocabulary_size: int) -> Any:
        """Byte-level BPE, trained on the training split."""
        return byte_pair_tokenizer(train.columns[self.text], vocabulary_size)

    def encode(self, split: Split, tokenizer: Any, labels: tuple[str, ...]) -> EncodedSplit:
        """Blocks between the tokenizer's first and last special token.

        Words are chosen anew each time a training block is used; in the other splits once for all, from the block's
        own tokens.
        """
        if tokenizer.mask_token_id is None or not tokenizer.is_fast:
            raise UnsupportedError("masked language modelling needs a fast tokenizer with a mask token")
        separator = tokenizer.sep_token_id
        stream = TokenStream(split.columns[self.text], tokenizer, separator=separator, with_words=True)
        if len(stream.tokens) < 2:
            raise DataError(f"the {split.name} split has too little text", where=split.source)
        first = [] if tokenizer.cls_token_id is None else [tokenizer.cls_token_id]
        last = [] if separator is None else [separator]
        masking = {"mask_token_id": tokenizer.mask_token_id, "vocabulary_size": len(tokenizer)}

        def make(start: int, stop: int) -> Example:
            ids, words = stream.tokens[start:stop].tolist(), stream.words[start:stop].tolist()
            if not self.whole_words:
                words = list(range(len(ids)))
            example: Example = {
                "input_ids": [*first, *ids, *last],
                "words": [-1] * len(first)
                + [-1 if token == separator else word for token, word in zip(ids, words, strict=True)]
                + [-1] * len(last),
                **masking,
            }
            return example if split.name == "train" else self._masked(example, _draws_of(example))

        return Blocks(stream, length=self.max_length - len(first) - len(last), overlap=0, make=make).as_split(split)

    def collate(self, examples: Sequence[Example], pad_token_id: int) -> dict[str, Tensor]:
        """Padded tokens and labels (batch × length); training blocks are masked here, from torch's generator."""
        import torch

        generator = random.Random(int(torch.randint(2**62, ()))) if "labels" not in examples[0] else None  # noqa: S311
        masked = examples if generator is None else [self._masked(example, generator) for example in examples]
        return pad_language(masked, pad_token_id)

    def predict_examples(
        self, model: nn.Module, examples: Sequence[Example], pad_token_id: int, inference: Inference
    ) -> list[Prediction]:
        """The loss of each block's masked tokens; training blocks are masked from their own tokens, too."""
        masked = [each if "labels" in each else self._masked(each, _draws_of(each)) for each in examples]
        return predict_losses(model, masked, pad_token_id, inference)

    def decisions(self, prediction: Prediction) -> list[tuple[Any, Any]]:
        """None: texts are scored by their loss."""
        return []

    def scorer(self, labels: tuple[str, ...]) -> Scorer:
        """Perplexity of the masked tokens."""
        return PerplexityScorer()

    def _masked(self, example: Mapping[str, Any], generator: random.Random) -> Example:
        """Choose words, one at least, and hide them."""
        ids, words = list(example["input_ids"]), example["words"]
        known = sorted({word for word in words if word >= 0})
        chosen = {word for word in known if generator.random() < self.mask_fraction}
        if known and not chosen:
            chosen = {known[int(generator.random() * len(known))]}
        fates = {word: generator.random() for word in sorted(chosen)}
        labels = [token if word in chosen else IGNORED for token, word in zip(ids, words, strict=True)]
        for place, word in enumerate(words):
            if word not in chosen or fates[word] < KEPT:
                continue
            random_token = int(generator.random() * example["vocabulary_size"])
            ids[place] = random_token if fates[word] < KEPT + REPLACED else example["mask_token_id"]
        return {"input_ids": ids, "labels": labels}


def _draws_of(example: Example) -> random.Random:
    return random.Random(repr(example["input_ids"]))  # noqa: S311 - no secret

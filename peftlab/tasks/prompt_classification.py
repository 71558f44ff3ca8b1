"""Classification by a prompt: the class is the word that a language model would put into the label's place.

With a masked model as in PET (https://arxiv.org/abs/2001.07676) and LM-BFF (https://arxiv.org/abs/2012.15723), with one
that reads from left to right as in GPT-3 (https://arxiv.org/abs/2005.14165): there a word may have several tokens, and
the mean of their log-probabilities counts. It needs no new head, so it answers before any training. What a word gets
whatever the text may be divided out, without labels, as in batch calibration (https://arxiv.org/abs/2309.17249).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, model_validator

from peftlab.core.model_facts import ModelFacts
from peftlab.core.splits import EncodedSplit, Example, Split
from peftlab.core.task import TASKS, Head, Prediction
from peftlab.tasks._labels import one_of_each_class
from peftlab.tasks.prompts.cloze import Cloze, check_order, check_prompt
from peftlab.tasks.text_classification import TextClassification
from peftlab.tasks.text_inputs import IGNORED, pad

if TYPE_CHECKING:
    from torch import Tensor, nn

FAMILY, PRIOR = "prompt_family", "word_prior"
SMALLEST = 1e-9
"""Of a mean probability, whose logarithm is taken."""


@TASKS.register("prompt_classification")
class PromptClassification(TextClassification):
    """Choose the class of a text by the word that a language model would write in a prompt: for no labels or a few."""

    padding: ClassVar[Mapping[str, int]] = {}
    answer_keys: ClassVar[tuple[str, ...]] = (PRIOR,)
    why_not_onnx: ClassVar[str] = "their prompt and words are no part of an ONNX file"

    prompt: str = Field(
        "{text} It was {label}.",
        min_length=1,
        description="What the model reads: {label} once, and each text column once, in braces. A model that reads from "
        "left to right is given what stands before {label}.",
    )
    words: dict[str, str] | None = Field(
        None, description="The word of each class, such as {positive: great, negative: terrible}. null: its name."
    )
    word_prior: Literal["kept", "validation"] = Field(
        "kept",
        description="What a word gets whatever the text. kept: it counts. validation: each word's mean probability on "
        "the validation texts is divided out; their labels are not looked at.",
    )

    @model_validator(mode="after")
    def _check_keys(self) -> PromptClassification:
        if self.is_multi_label:
            raise ValueError("a text has one class here; for several labels choose the task text_classification")
        if self.windows is not None or self.separator is not None or self.pooling != "head":
            raise ValueError("`windows`, `separator` and `pooling` are for the task text_classification")
        check_prompt(self.prompt, self.text_columns())
        return self

    @property
    def _reads_from_left(self) -> bool:
        return self.learned.get(FAMILY) == "decoder"

    @property
    def one_row_an_example(self) -> bool:
        """Words of several tokens each have a row; and a batch is asked for the words of one run."""
        return False

    def learn_model(self, facts: ModelFacts) -> dict[str, Any]:
        """Whether it fills masks, or goes on with a text."""
        return {FAMILY: "decoder"} if facts.family == "decoder" else {}

    def check(self, facts: ModelFacts) -> None:
        """As in text classification; a model must be given every text."""
        super().check(facts)
        if facts.family == "decoder":
            check_order(self.prompt, self.text_columns())

    def check_split(self, split: Split, labels: tuple[str, ...]) -> None:
        """Every class must have a word, and every word a class."""
        super().check_split(split, labels)
        self._words(labels)

    def peft_task(self) -> str:
        """Peft has no name for models that fill masks; this one leaves them as they are."""
        return "CAUSAL_LM" if self._reads_from_left else "FEATURE_EXTRACTION"

    def head(self, labels: tuple[str, ...]) -> Head:
        """The language model's own."""
        return Head("AutoModelForCausalLM" if self._reads_from_left else "AutoModelForMaskedLM", {}, kind="own")

    def encode(self, split: Split, tokenizer: Any, labels: tuple[str, ...]) -> EncodedSplit:
        """Tokens of the prompt, ``place`` of the label in it, the tokens of each class's word, and ``label``."""
        columns = self.text_columns()
        cloze = Cloze(self.prompt, columns, tokenizer, is_masked=not self._reads_from_left, max_length=self.max_length)
        words = list(cloze.tokens_of_words(self._words(labels)).values())
        longest, examples = max(map(len, words)), list[Example]()
        for row, target in enumerate(self.targets(split, labels)):
            texts = [split.columns[column][row] for column in columns]
            place = cloze.read(texts, where=split.where(row), longest_word=longest)
            examples.append(
                {
                    "input_ids": place.input_ids,
                    "place": place.at,
                    "words": words,
                    "label": target,
                    "truncated": place.is_cut,
                }
            )
        notes = {"texts_cut": sum(bool(example["truncated"]) for example in examples)}
        return EncodedSplit(split.name, split.index, examples, notes=notes)

    def placeholder(self, length: int, labels: tuple[str, ...]) -> Example:
        """Words of one token."""
        words = [[at] for at in range(len(labels))]
        return {"input_ids": [0] * length, "place": length - 1, "words": words, "label": 0}

    def by_row(self, example: Example, row: int) -> Example | None:
        """The logits need the state of the label's place, by the model's own head."""
        return None

    def length(self, example: Example) -> int:
        """The tokens of all rows."""
        return sum(len(row["input_ids"]) for row in self._rows(example))

    def collate(self, examples: Sequence[Example], pad_token_id: int) -> dict[str, Tensor]:
        """Padded tokens; ``places``: what states are to predict; ``words``: their first tokens; ``labels``: classes."""
        import torch

        rows = [row for example in examples for row in self._rows(example)]
        batch = pad(rows, pad_token_id)
        places = torch.full_like(batch["input_ids"], IGNORED)
        for row, one in enumerate(rows):
            for at, token in enumerate(one["tokens"], start=one["place"]):
                places[row, at] = token
        label_rows, label_columns = (places != IGNORED).nonzero(as_tuple=True)
        return {
            **batch,
            "places": places,
            "label_rows": label_rows,
            "label_columns": label_columns,
            "words": torch.tensor([[word[0] for word in example["words"]] for example in examples]),
            "labels": torch.tensor([example["label"] for example in examples]),
        }

    def logits(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """For each class what its word gets, batch × classes: a logit, or the mean log-probability of its tokens."""
        from peftlab.tasks.language.vocabulary_head import label_losses, labelled_logits

        places, words, rows = batch["places"], batch["words"], batch["label_rows"]
        asked = {**batch, "labels": places}
        if len(places) == len(words):
            return labelled_logits(model, asked).gather(1, words)
        likely = -label_losses(model, asked)
        sums = likely.new_zeros(len(places)).index_add(0, rows, likely)
        counts = likely.new_zeros(len(places)).index_add(0, rows, likely.new_ones(len(rows)))
        return (sums / counts).view(words.shape)

    def of_examples(self, values: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        """The mean of a text's rows, of which words of several tokens have one each."""
        return values.view(len(batch["words"]), -1, *values.shape[1:]).mean(dim=1)

    def class_terms(self, logits: Tensor, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """One term an example."""
        return self._without_prior(logits.float()), batch["labels"]

    def predict(self, logits: Tensor, batch: Mapping[str, Tensor], labels: tuple[str, ...]) -> list[Prediction]:
        """The class of the likeliest word, with every class's share."""
        return super().predict(self._without_prior(logits.float()), batch, labels)

    @property
    def learns_answers(self) -> bool:
        """What each word gets whatever the text."""
        return self.word_prior == "validation"

    def learn_answers(self, predictions: Sequence[Prediction], labels: tuple[str, ...]) -> dict[str, Any]:
        """The logarithm of each class's mean probability."""
        means = [math.fsum(own) / len(predictions) for own in zip(*(each.scores for each in predictions), strict=True)]
        return {PRIOR: [math.log(max(mean, SMALLEST)) for mean in means]}

    def usage_note(self) -> str:
        """How the language model is asked."""
        prior = ""
        if PRIOR in self.learned:
            shown = ", ".join(f"{value:.4f}" for value in self.learned[PRIOR])
            prior = f" From the classes' logits, in order, are taken: {shown}."
        return f"The prompt is `{self.prompt}`; the class is the one whose word is the likeliest there.{prior}"

    def _words(self, labels: tuple[str, ...]) -> dict[str, str]:
        """The word of each class, in the order of the classes."""
        if self.words is None:
            return {name: name for name in labels}
        return one_of_each_class(self.words, labels, where="task.words", what="word")

    def _rows(self, example: Example) -> list[dict[str, Any]]:
        """The prompt once, where each word is one token; else once with each word, up to its last token but one."""
        ids, place, words = example["input_ids"], example["place"], example["words"]
        if all(len(word) == 1 for word in words):
            return [{"input_ids": ids, "place": place, "tokens": [words[0][0]]}]
        return [{"input_ids": [*ids, *word[:-1]], "place": place, "tokens": word} for word in words]

    def _without_prior(self, logits: Tensor) -> Tensor:
        """The prior is of logits that are not divided by a temperature, which may change no answer."""
        prior = self.learned.get(PRIOR)
        return logits if prior is None else logits - logits.new_tensor(prior) / self._temperature

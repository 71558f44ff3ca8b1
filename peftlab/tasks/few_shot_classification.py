"""Classification with a few labels a class: contrastive tuning first, then a head that is fitted and not trained.

As SetFit does it (https://arxiv.org/abs/2209.11055), in one run. While it trains, texts of one class move together and
others apart: every example meets another one of its class, so that a few examples make many pairs. The head is a layer
over the mean of a text's states. It learns from the same steps, and is fitted by logistic regression on what the model
gives after the last of them. What a class is called can be read as one more text of it.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, PositiveFloat, model_validator

from peftlab.core.splits import EncodedSplit, Example, Split
from peftlab.core.task import TASKS, Head, Policy
from peftlab.tasks._embedding_losses import supervised_contrastive
from peftlab.tasks._labels import one_of_each_class
from peftlab.tasks._logistic import fit_logistic
from peftlab.tasks.text_classification import MEAN_OF_TOKENS, TextClassification
from peftlab.tasks.text_inputs import encode_texts, model_inputs, pad, token_mean

if TYPE_CHECKING:
    from torch import Tensor, nn

PARTNERS = "partners"
"""Of a training example: the tokens of other examples of its class."""
CLASS_TEXT = "class_text"
"""Of a training example: the tokens of what its class is called."""
MOST_PARTNERS = 16
ROWS_AT_ONCE = 32


@TASKS.register("few_shot_classification")
class FewShotClassification(TextClassification):
    """Choose the class of a text, from a few examples of each class: contrastive tuning, then a fitted head."""

    peft_task_type: ClassVar[str] = "TOKEN_CLS"
    divisible: ClassVar[bool] = False
    collates_ahead: ClassVar[bool] = False
    padding: ClassVar[Mapping[str, int]] = {}
    metrics: ClassVar[tuple[str, ...]] = TextClassification.metrics

    temperature: PositiveFloat = Field(
        0.1, description="Similarities are divided by it; a small one looks at the nearest texts alone."
    )
    head_strength: PositiveFloat = Field(
        10.0, description="How freely the head fits the examples: C of scikit-learn's logistic regression."
    )
    class_texts: Literal["names"] | dict[str, str] | None = Field(
        None,
        description="What each class is called, read as one more training text of it. names: the classes' own names "
        "(_ and - are read as spaces); or a text of each class, such as {LOC: a place, NUM: a number}. null: none.",
    )

    @model_validator(mode="after")
    def _one_class_a_text(self) -> FewShotClassification:
        if self.is_multi_label:
            raise ValueError("a text has one class here; for several labels choose the task text_classification")
        if self.class_texts is not None and len(self.text_columns()) > 1:
            raise ValueError("`class_texts` are of one text each: they cannot be read where `text` names two columns")
        if self.windows is not None or self.focal_gamma is not None or self.pooling != "head":
            raise ValueError("`windows`, `focal_gamma` and `pooling` are for the task text_classification")
        return self

    @property
    def takes_class_weights(self) -> bool:
        """The loss compares texts."""
        return False

    @property
    def has_class_targets(self) -> bool:
        """The loss compares texts."""
        return False

    def head(self, labels: tuple[str, ...]) -> Head:
        """A linear layer over every token, whose mean is that of the mean of the states."""
        return replace(super().head(labels), auto_class="AutoModelForTokenClassification")

    def usage_note(self) -> str:
        """The mean is left to who calls."""
        return MEAN_OF_TOKENS

    def check_split(self, split: Split, labels: tuple[str, ...]) -> None:
        """Every class must be called something, where it is said of any."""
        super().check_split(split, labels)
        self._class_texts(labels)

    def encode(self, split: Split, tokenizer: Any, labels: tuple[str, ...]) -> EncodedSplit:
        """As in text classification; each training example knows others of its class."""
        encoded = super().encode(split, tokenizer, labels)
        if split.name != "train":
            return encoded
        of_class: dict[int, list[int]] = {}
        for at, example in enumerate(encoded.examples):
            of_class.setdefault(example["label"], []).append(at)
        draws = random.Random(0)  # noqa: S311 - no secret
        names = self._class_tokens(tokenizer, labels) if self.class_texts is not None else []
        examples = []
        for at, example in enumerate(encoded.examples):
            others = [other for other in of_class[example["label"]] if other != at] or [at]
            chosen = draws.sample(others, min(len(others), MOST_PARTNERS))
            partners = [_tokens(encoded.examples[other]) for other in chosen]
            if names:
                name = names[example["label"]]
                examples.append({**example, PARTNERS: [*partners, name], CLASS_TEXT: name})
            else:
                examples.append({**example, PARTNERS: partners})
        return replace(encoded, examples=examples)

    def _class_texts(self, labels: tuple[str, ...]) -> list[str]:
        """What each class is called; empty where that is not read."""
        if self.class_texts is None:
            return []
        if self.class_texts == "names":
            return [name.replace("_", " ").replace("-", " ") for name in labels]
        return list(one_of_each_class(self.class_texts, labels, where="task.class_texts", what="text").values())

    def _class_tokens(self, tokenizer: Any, labels: tuple[str, ...]) -> list[Example]:
        texts, column = self._class_texts(labels), self.text_columns()[0]
        split = Split("class_texts", range(len(texts)), {column: texts}, source="task.class_texts")
        encoded = encode_texts(split, [column], range(len(texts)), tokenizer=tokenizer, max_length=self.max_length)
        return [_tokens(example) for example in encoded.examples]

    def by_row(self, example: Example, row: int) -> Example | None:
        """Other texts of its class are compared with it."""
        return None

    def length(self, example: Example) -> int:
        """Its own tokens, and as many as a partner has."""
        partners = example.get(PARTNERS, ())
        shared = sum(len(partner["input_ids"]) for partner in partners) // max(1, len(partners))
        return len(example["input_ids"]) + shared

    def longest(self) -> int:
        """A text and its partner."""
        return 2 * self.max_length

    def collate(self, examples: Sequence[Example], pad_token_id: int) -> dict[str, Tensor]:
        """Padded tokens and ``labels``; behind training examples stands a partner of each, drawn by torch."""
        import torch

        rows = list(examples)
        for example in examples:
            if partners := example.get(PARTNERS):
                drawn = int(torch.randint(len(partners), ()))
                rows.append({**partners[drawn], "label": example["label"]})
        return {**pad(rows, pad_token_id), "labels": torch.tensor([row["label"] for row in rows])}

    def logits(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """Logits, texts × classes: the mean of the tokens'."""
        return token_mean(model(**model_inputs(batch)).logits, batch)

    def training_loss(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """The contrastive loss of the vectors, and the head's cross-entropy."""
        from torch.nn import functional

        output = model(**model_inputs(batch), output_hidden_states=True)
        vectors = functional.normalize(token_mean(output.hidden_states[-1], batch), dim=-1)
        tokens = batch["input_ids"]
        same_text = (tokens[:, None] == tokens[None, :]).all(dim=-1)  # a partner may stand in the batch by itself
        contrast = supervised_contrastive(vectors, batch["labels"], temperature=self.temperature, same_text=same_text)
        return contrast + self.loss(token_mean(output.logits, batch), batch)

    def fit_head(self, policy: Policy, examples: Sequence[Example]) -> None:
        """Fit the head to what the model makes of the training examples."""
        import torch

        plain = [{**_tokens(example), "label": example["label"]} for example in examples]
        named = {example["label"]: example[CLASS_TEXT] for example in examples if CLASS_TEXT in example}
        plain += [{**tokens, "label": label} for label, tokens in sorted(named.items())]
        vectors, classes = [], []
        for start in range(0, len(plain), ROWS_AT_ONCE):
            batch = self.collate(plain[start : start + ROWS_AT_ONCE], policy.pad_token_id)
            vectors.append(policy.inference.compute(_vectors, policy.model, batch).float().cpu())
            classes.append(batch["labels"])
        count = len(policy.inference.labels)
        weights, bias = fit_logistic(torch.cat(vectors), torch.cat(classes), count, strength=self.head_strength)
        head = _head_of(policy.model, count)
        with torch.no_grad():
            head.weight.copy_(weights)
            if head.bias is not None:
                head.bias.copy_(bias)


def _tokens(example: Example) -> Example:
    return {key: example[key] for key in ("input_ids", "token_type_ids") if key in example}


def _vectors(model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
    """What the head reads, before the mean of its outputs is taken."""
    return token_mean(model(**model_inputs(batch), output_hidden_states=True).hidden_states[-1], batch)


def _head_of(model: nn.Module, classes: int) -> Any:
    """The layer that trains and has an output for each class: the last such one."""
    from torch import nn

    found = [
        module
        for module in model.modules()
        if isinstance(module, nn.Linear) and module.out_features == classes and module.weight.requires_grad
    ]
    return found[-1]

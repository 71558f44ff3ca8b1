"""Text regression: a number for a text, or for a pair, such as similarity."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, PositiveInt, model_validator

from peftlab.core.errors import DataError
from peftlab.core.model_facts import ModelFacts
from peftlab.core.splits import EncodedSplit, Example, Split
from peftlab.core.task import TASKS, Head, Prediction, Scorer, Task
from peftlab.core.task_guess import Guesser
from peftlab.tasks._labels import tidy_value
from peftlab.tasks._numbers import number_in
from peftlab.tasks._scorers import RegressionScorer
from peftlab.tasks.guesses.numbers import guess_numbers
from peftlab.tasks.text_inputs import (
    PADDING,
    check_family,
    check_length,
    check_text_columns,
    encode_texts,
    one_token,
    pad,
    sequence_logits,
    with_columns,
    without_blank_texts,
)

if TYPE_CHECKING:
    from torch import Tensor, nn

MEAN, SCALE = "target_mean", "target_scale"
COMPLETE = "logits_in_unit_of_targets"
LARGEST_SHIFT = 1e3
"""Standard deviations from 0 to the mean, beyond which float32 has too few digits for what lies about the mean."""
LARGEST_SCALE = 1e30
ALIKE = 0.05
"""Of a standard deviation: how far the statistics of two runs may lie apart that are mixed."""
FAR = 10.0
"""Targets whose mean or spread is further than this from 0 and 1 are told of."""


@TASKS.register("text_regression")
class TextRegression(Task):
    """Predict a number for a text, or for a pair of texts."""

    guess: ClassVar[Guesser] = staticmethod(guess_numbers)
    peft_task_type: ClassVar[str] = "SEQ_CLS"
    collates_ahead: ClassVar[bool] = True
    takes_augmentation: ClassVar[bool] = True
    pools_answers: ClassVar[bool] = True
    padding: ClassVar[Mapping[str, int]] = PADDING
    metrics: ClassVar[tuple[str, ...]] = ("spearman", "pearson", "mean_squared_error", "mean_absolute_error")

    text: str | list[str] = Field("text", description="The column of the text, or a list of two for pairs.")
    label: str = Field("label", description="The column of the number.")
    max_length: PositiveInt = Field(128, description="Longer texts are cut to this many tokens.")
    separator: str | None = Field(
        None,
        min_length=1,
        description="What comes between the two texts of a pair. null: what the tokenizer puts there, or else its "
        "separator or end token. The record names it.",
    )

    @model_validator(mode="after")
    def _check_columns(self) -> TextRegression:
        check_text_columns(self.text_columns(), self.label_columns())
        return self

    def text_columns(self) -> tuple[str, ...]:
        """The column of the text, or the two of a pair."""
        return (self.text,) if isinstance(self.text, str) else tuple(self.text)

    def label_columns(self) -> tuple[str, ...]:
        """The column of the number."""
        return (self.label,)

    def check(self, facts: ModelFacts) -> None:
        """Refuse encoder-decoders, and lengths beyond the model's positions."""
        check_family(facts)
        check_length(self.max_length, facts)

    def number_columns(self) -> tuple[str, ...]:
        """The column of the number."""
        return (self.label,)

    def tidy_rows(self, split: Split) -> Split:
        """Blank texts and targets are missing."""
        split = without_blank_texts(split, self.text_columns())
        return with_columns(split, self.label_columns(), lambda value: tidy_value(value, None))

    def learn_labels(self, train: Split) -> tuple[str, ...]:
        """There are no classes, but the targets must differ."""
        self.learn(train)
        return ()

    def learn(self, train: Split) -> dict[str, Any]:
        """Mean and standard deviation of the targets: the model learns and gives targets in standard deviations."""
        targets = [self._target(train, row) for row in range(len(train))]
        # In units of the largest, so that no square of a very large or very small target is infinite or zero.
        largest = max(map(abs, targets), default=0.0) or 1.0
        shares = [target / largest for target in targets]
        mean = math.fsum(shares) / max(1, len(shares))
        spread = math.sqrt(math.fsum((share - mean) ** 2 for share in shares) / max(1, len(shares)))
        if len(set(targets)) < 2 or not spread * largest > 0:
            raise DataError(
                "every training example has the same target", where=f"{train.source or 'data'}, column `{self.label}`"
            )
        return {MEAN: mean * largest, SCALE: spread * largest}

    def why_not_measured(self, metric: str, split: Split, labels: tuple[str, ...]) -> str | None:
        """Correlations need targets that differ."""
        is_correlation = metric in ("spearman", "pearson")
        if is_correlation and len({self._target(split, row) for row in range(len(split))}) < 2:
            return "all of its targets are equal"
        return None

    def notices(self, splits: Mapping[str, Split], labels: tuple[str, ...]) -> dict[str, str]:
        """Targets that a model without their mean and spread could hardly learn, and such as may be classes."""
        mean, scale = self._mean, self._scale
        targets = [self._target(split, row) for split in splits.values() for row in range(len(split))]
        values = sorted(set(targets))
        told = {}
        if len(values) == 2 < len(targets):
            told["targets_of_two_values"] = (
                f"all targets are {values[0]:.6g} or {values[1]:.6g}: if these are classes, "
                "text_classification says how sure it is of each"
            )
        if abs(mean) <= FAR * max(scale, 1.0) and 1 / FAR <= scale <= FAR:
            return told
        return told | {
            "targets_standardised": f"targets lie around {mean:.6g} with a standard deviation of {scale:.6g}: the "
            "model learns them in standard deviations; predictions and metrics are in the targets' own unit"
        }

    def check_split(self, split: Split, labels: tuple[str, ...]) -> None:
        """Every target must be a finite number."""
        for row in range(len(split)):
            self._target(split, row)

    def head(self, labels: tuple[str, ...]) -> Head:
        """A linear layer to one number."""
        return Head(
            auto_class="AutoModelForSequenceClassification",
            config={"num_labels": 1, "problem_type": "regression"},
            notes=self.learned,
        )

    def encode(self, split: Split, tokenizer: Any, labels: tuple[str, ...]) -> EncodedSplit:
        """Tokens; ``label``: the target in standard deviations from the mean; ``target``: as it is."""
        targets = [self._target(split, row) for row in range(len(split))]
        standardised = [(target - self._mean) / self._scale for target in targets]
        encoded = encode_texts(
            split,
            self.text_columns(),
            standardised,
            tokenizer=tokenizer,
            max_length=self.max_length,
            separator=self.separator,
        )
        for example, target in zip(encoded.examples, targets, strict=True):
            example["target"] = target
        return encoded

    def placeholder(self, length: int, labels: tuple[str, ...]) -> Example:
        """The target 0."""
        return {"input_ids": [0] * length, "label": 0.0, "target": 0.0}

    def by_row(self, example: Example, row: int) -> Example | None:
        """The head reads one vector a text."""
        return one_token(example, row)

    def collate(self, examples: Sequence[Example], pad_token_id: int) -> dict[str, Tensor]:
        """Padded tokens, ``labels`` (batch), and ``targets`` (batch) with every digit of theirs."""
        import torch

        return {
            **pad(examples, pad_token_id),
            "labels": torch.tensor([example["label"] for example in examples]),
            "targets": torch.tensor([example["target"] for example in examples], dtype=torch.float64),
        }

    def logits(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """Predictions in standard deviations from the mean, batch × 1."""
        return sequence_logits(model, batch)

    def loss(self, logits: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        """Squared error, summed over the examples."""
        from torch.nn import functional

        return functional.mse_loss(logits.float().squeeze(-1), batch["labels"], reduction="sum")

    def loss_terms(self, batch: Mapping[str, Tensor]) -> int:
        """One term an example."""
        return len(batch["labels"])

    def predict(self, logits: Tensor, batch: Mapping[str, Tensor], labels: tuple[str, ...]) -> list[Prediction]:
        """The number that the model gives, in the targets' own unit."""
        outputs = logits.double().squeeze(-1)
        values = (outputs if self._is_complete else outputs * self._scale + self._mean).tolist()
        return [
            Prediction(label=target, prediction=value, scores=[value])
            for target, value in zip(batch["targets"].tolist(), values, strict=True)
        ]

    def pool(self, said: Sequence[Prediction], labels: tuple[str, ...]) -> Prediction:
        """The mean of the numbers."""
        value = math.fsum(item.prediction for item in said) / len(said)
        return Prediction(label=said[0].label, prediction=value, scores=[value])

    def decisions(self, prediction: Prediction) -> list[tuple[Any, Any]]:
        """The number."""
        return [(float(prediction.label), float(prediction.prediction))]

    def scorer(self, labels: tuple[str, ...]) -> Scorer:
        """Correlations and errors."""
        return RegressionScorer()

    def placeholder_labels(self, split: Split, labels: tuple[str, ...]) -> Mapping[str, Sequence[Any]]:
        """Zeros."""
        return {self.label: [0.0] * len(split)}

    def answer(self, prediction: Prediction, inputs: Mapping[str, Any], labels: tuple[str, ...]) -> dict[str, Any]:
        """The number."""
        return {"prediction": prediction.prediction}

    @property
    def _mean(self) -> float:
        return float(self.learned.get(MEAN, 0.0))

    @property
    def _scale(self) -> float:
        return float(self.learned.get(SCALE, 1.0))  # runs of earlier versions learned targets as they are

    @property
    def _is_complete(self) -> bool:
        return bool(self.learned.get(COMPLETE, False))

    def complete(self, model: nn.Module, *, may_add: bool) -> TextRegression:
        """Give the last layer the targets' unit, where float32 can hold it and the layer has a bias or may get one."""
        import torch

        from peftlab.core.tensors import output_layer

        layer = output_layer(model, 1)
        can_hold = abs(self._mean) <= LARGEST_SHIFT * self._scale and 1 / LARGEST_SCALE < self._scale < LARGEST_SCALE
        if (
            layer is None
            or layer.weight.dtype != torch.float32
            or not can_hold
            or not (self.learned and not self._is_complete)
        ):
            return self
        if layer.bias is None and not may_add:
            return self
        with torch.no_grad():
            bias = torch.zeros(1) if layer.bias is None else layer.bias
            layer.weight.copy_(layer.weight.double() * self._scale)
            layer.bias = torch.nn.Parameter((bias.double() * self._scale + self._mean).float())
        setattr(model.config, COMPLETE, True)
        return self.fitted({**self.learned, COMPLETE: True})

    def comparable(self, logits: Tensor) -> Tensor:
        """In standard deviations."""
        return (logits.double() - self._mean) / self._scale if self._is_complete else logits.double()

    def is_learned_alike(self, other: Task) -> bool:
        """Whether mean and spread differ by little, as between the training splits of two seeds."""
        if not isinstance(other, TextRegression):
            return False
        near = abs(self._mean - other._mean) <= ALIKE * self._scale
        return near and abs(self._scale - other._scale) <= ALIKE * self._scale

    def usage_note(self) -> str:
        """How standard deviations become the targets' unit."""
        if not self.learned or self._is_complete:
            return ""
        return (
            f"Loaded without peftlab, the model gives standard deviations from the mean: multiply by {self._scale:.9g} "
            f"and add {self._mean:.9g} (`{SCALE}` and `{MEAN}` in config.json)."
        )

    def _target(self, split: Split, row: int) -> float:
        return number_in(split, row, self.label, "target")

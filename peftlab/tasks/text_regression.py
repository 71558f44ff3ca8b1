"""Text regression: a number for a text, or for a pair, such as similarity."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, PositiveInt, model_validator

from peftlab.errors import DataError
from peftlab.interfaces import TASKS, EncodedSplit, Example, Head, ModelFacts, Prediction, Scorer, Split, Task
from peftlab.tasks._text import check_family, check_length, encode_texts, pad, sequence_logits
from peftlab.tasks.metrics import RegressionScorer

if TYPE_CHECKING:
    from torch import Tensor, nn


@TASKS.register("text_regression")
class TextRegression(Task):
    """Predict a number for a text, or for a pair of texts."""

    peft_task_type: ClassVar[str] = "SEQ_CLS"
    metrics: ClassVar[tuple[str, ...]] = ("spearman", "pearson", "mean_squared_error", "mean_absolute_error")

    text: str | list[str] = Field("text", description="The column of the text, or a list of two for pairs.")
    label: str = Field("label", description="The column of the number.")
    max_length: PositiveInt = Field(128, description="Longer texts are cut to this many tokens.")

    @model_validator(mode="after")
    def _check_columns(self) -> TextRegression:
        if len(self.text_columns()) not in (1, 2):
            raise ValueError("`text` takes one column, or two for pairs")
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

    def learn_labels(self, train: Split) -> tuple[str, ...]:
        """There are no classes, but the targets must differ."""
        targets = [self._target(train, row) for row in range(len(train))]
        if len(set(targets)) < 2:
            raise DataError(
                "every training example has the same target", where=f"{train.source or 'data'}, column `{self.label}`"
            )
        return ()

    def check_split(self, split: Split, labels: tuple[str, ...]) -> None:
        """Every target must be a finite number."""
        for row in range(len(split)):
            self._target(split, row)

    def head(self, labels: tuple[str, ...]) -> Head:
        """A linear layer to one number."""
        return Head(
            auto_class="AutoModelForSequenceClassification", config={"num_labels": 1, "problem_type": "regression"}
        )

    def encode(self, split: Split, tokenizer: Any, labels: tuple[str, ...]) -> EncodedSplit:
        """Tokens, and ``label``: the target."""
        targets = [self._target(split, row) for row in range(len(split))]
        return encode_texts(split, self.text_columns(), targets, tokenizer=tokenizer, max_length=self.max_length)

    def placeholder(self, length: int, labels: tuple[str, ...]) -> Example:
        """The target 0."""
        return {"input_ids": [0] * length, "label": 0.0}

    def collate(self, examples: Sequence[Example], pad_token_id: int) -> dict[str, Tensor]:
        """Padded tokens, and ``labels`` (batch)."""
        import torch

        return {**pad(examples, pad_token_id), "labels": torch.tensor([example["label"] for example in examples])}

    def logits(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """Predictions, batch × 1."""
        return sequence_logits(model, batch)

    def loss(self, logits: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        """Squared error, summed over the examples."""
        from torch.nn import functional

        return functional.mse_loss(logits.float().squeeze(-1), batch["labels"], reduction="sum")

    def loss_terms(self, batch: Mapping[str, Tensor]) -> int:
        """One term an example."""
        return len(batch["labels"])

    def predict(self, logits: Tensor, batch: Mapping[str, Tensor], labels: tuple[str, ...]) -> list[Prediction]:
        """The number that the model gives."""
        values = logits.float().squeeze(-1).tolist()
        return [
            Prediction(label=target, prediction=value, scores=[value])
            for target, value in zip(batch["labels"].tolist(), values, strict=True)
        ]

    def scorer(self, labels: tuple[str, ...]) -> Scorer:
        """Correlations and errors."""
        return RegressionScorer()

    def placeholder_labels(self, split: Split, labels: tuple[str, ...]) -> Mapping[str, Sequence[Any]]:
        """Zeros."""
        return {self.label: [0.0] * len(split)}

    def answer(self, prediction: Prediction, inputs: Mapping[str, Any], labels: tuple[str, ...]) -> dict[str, Any]:
        """The number."""
        return {"prediction": prediction.prediction}

    def _target(self, split: Split, row: int) -> float:
        value = split.columns[self.label][row]
        try:
            target = float(value)
        except (TypeError, ValueError):
            target = math.nan
        if not math.isfinite(target):
            raise DataError(
                f"the target {value!r} in column `{self.label}` is not a finite number", where=split.where(row)
            )
        return target

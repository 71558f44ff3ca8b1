"""Ordinal classification: classes with an order, such as stars or grades, by CORN."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import TYPE_CHECKING, ClassVar, Self

from pydantic import Field, model_validator

from peftlab.core.errors import DataError, did_you_mean
from peftlab.core.splits import Split
from peftlab.core.task import TASKS, Head, Prediction, Scorer
from peftlab.tasks._class_losses import corn_loss, corn_probabilities
from peftlab.tasks._labels import class_finder
from peftlab.tasks._scorers import OrdinalScorer
from peftlab.tasks.text_classification import TextClassification
from peftlab.tasks.windows import pooled

if TYPE_CHECKING:
    from torch import Tensor


@TASKS.register("ordinal_classification")
class OrdinalClassification(TextClassification):
    """Choose one of several classes that have an order, such as stars, so that near misses are better than far ones."""

    metrics: ClassVar[tuple[str, ...]] = (
        "accuracy",
        "rank_error",
        "quadratic_kappa",
        "macro_f1",
        "weighted_f1",
        "matthews",
        "auroc",
    )

    order: list[str] | None = Field(
        None, description="The classes, the lowest first. null: they are numbers, and have the order of numbers."
    )

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if self.is_multi_label:
            raise ValueError("a text has one class here; for several labels choose the task text_classification")
        if self.focal_gamma is not None:
            raise ValueError("`focal_gamma` is for the task text_classification")
        if self.order is not None and len(set(self.order)) < len(self.order):
            raise ValueError("`order` names a class twice")
        return self

    def learn_labels(self, train: Split) -> tuple[str, ...]:
        """The classes in their order; each must occur in training."""
        found = super().learn_labels(train)
        where = f"{train.source or 'data'}, column `{self.label}`"
        if self.order is None:
            if strange := next((name for name in found if not _is_number(name)), None):
                raise DataError(
                    f"the class {strange!r} is no number, so the order of the classes is not known",
                    where=where,
                    hint=f"Name them, the lowest first: `task.order: [{', '.join(found)}]`, put in order.",
                )
            return found
        find = class_finder(self.order)
        if strange := next((name for name in found if find(name) is None), None):
            raise DataError(
                f"the class {strange!r} is not in task.order", where=where, hint=did_you_mean(strange, self.order)
            )
        if missing := set(self.order) - {find(name) for name in found}:
            raise DataError(
                f"the class {min(missing)!r} of task.order is in no training row",
                where=where,
                hint="Take it out of the list: nothing could be learned of it.",
            )
        return tuple(self.order)

    def why_not_measured(self, metric: str, split: Split, labels: tuple[str, ...]) -> str | None:
        """The agreement needs classes that differ."""
        if metric == "quadratic_kappa":
            return super().why_not_measured("matthews", split, labels)
        return None if metric == "rank_error" else super().why_not_measured(metric, split, labels)

    def head(self, labels: tuple[str, ...]) -> Head:
        """One output fewer than classes: each says whether the class is above one."""
        names = {at: f"above {name}" for at, name in enumerate(labels[:-1])}
        head = super().head(labels)
        config = {"num_labels": len(names), "id2label": names, "label2id": {name: at for at, name in names.items()}}
        return replace(head, config={**head.config, **config, "problem_type": "multi_label_classification"})

    def loss(self, logits: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        """CORN's, summed over the examples and the decisions on each."""
        return corn_loss(pooled(logits.float(), batch), batch["labels"])

    def predict(self, logits: Tensor, batch: Mapping[str, Tensor], labels: tuple[str, ...]) -> list[Prediction]:
        """The highest class that the text is more likely than not to reach, with the probability of every class."""
        scores = corn_probabilities(pooled(logits.float(), batch))
        above = 1 - scores.cumsum(dim=1)[:, :-1]
        levels = (above > 0.5).sum(dim=1).tolist()
        return [
            Prediction(label=labels[right], prediction=labels[level], scores=row)
            for right, level, row in zip(batch["labels"].tolist(), levels, scores.tolist(), strict=True)
        ]

    def decide(self, scores: Sequence[float], labels: tuple[str, ...]) -> str:
        """The highest class that is more likely than not to be reached."""
        return next(name for name, reached in zip(labels, accumulate(scores), strict=True) if 1 - reached <= 0.5)

    @property
    def has_class_targets(self) -> bool:
        """The loss is of decisions between classes."""
        return False

    @property
    def takes_class_weights(self) -> bool:
        """A decision is about several classes."""
        return False

    def scorer(self, labels: tuple[str, ...]) -> Scorer:
        """Metrics of classes, and of how far answers are from what is right."""
        return OrdinalScorer(labels)

    def confidences(self, prediction: Prediction, labels: tuple[str, ...]) -> list[tuple[float, bool]]:
        """Of the chosen class, which need not be the likeliest one."""
        score = prediction.scores[labels.index(prediction.prediction)]
        return [(score, prediction.prediction == prediction.label)]

    def usage_note(self) -> str:
        """What the outputs mean."""
        note = (
            "The outputs are CORN's: the sigmoid of output k is the probability of a class above k, given that it is k "
            "at least; their products are the probabilities of reaching each class."
        )
        return " ".join(filter(None, [note, super().usage_note()]))


def _is_number(name: str) -> bool:
    try:
        float(name)
    except ValueError:
        return False
    return True

"""Text classification: binary, multi-class, or any number of labels per text."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, PositiveInt, model_validator

from peftlab.core.errors import DataError, did_you_mean
from peftlab.core.model_facts import ModelFacts
from peftlab.core.splits import EncodedSplit, Example, Split
from peftlab.core.task import TASKS, Head, Prediction, Scorer, Task
from peftlab.core.task_guess import Guesser
from peftlab.tasks._labels import (
    class_finder,
    class_names,
    in_order,
    is_blank,
    label_key,
    notices_of_spellings,
    other_separator,
    split_labels,
    tidy,
    tidy_value,
)
from peftlab.tasks._scorers import ClassScorer, MultiLabelScorer
from peftlab.tasks._weights import weights_like
from peftlab.tasks.guesses.classes import guess_classes
from peftlab.tasks.text_inputs import (
    PADDING,
    check_family,
    check_length,
    encode_texts,
    pad,
    sequence_logits,
    with_columns,
    without_blank_texts,
)

if TYPE_CHECKING:
    from torch import Tensor, nn


@TASKS.register("text_classification")
class TextClassification(Task):
    """Choose one class of a text (or of a pair of texts), or any number of labels."""

    guess: ClassVar[Guesser] = staticmethod(guess_classes)
    peft_task_type: ClassVar[str] = "SEQ_CLS"
    collates_ahead: ClassVar[bool] = True
    padding: ClassVar[Mapping[str, int]] = PADDING
    metrics: ClassVar[tuple[str, ...]] = ("accuracy", "macro_f1", "weighted_f1", "micro_f1", "matthews", "auroc")
    has_probabilities: ClassVar[bool] = True

    text: str | list[str] = Field("text", description="The column of the text, or a list of two for pairs.")
    label: str | list[str] = Field(
        "label", description="The column of the class. A list of columns with 0 and 1 makes the task multi-label."
    )
    multi_label: bool = Field(
        False, description="The label column holds several labels: a list, or a separated string."
    )
    label_separator: str = Field(",", min_length=1, description="The separator between several labels in one string.")
    max_length: PositiveInt = Field(128, description="Longer texts are cut to this many tokens.")
    separator: str | None = Field(
        None,
        min_length=1,
        description="What comes between the two texts of a pair. null: what the tokenizer puts there, or else its "
        "separator or end token. The record names it.",
    )

    @model_validator(mode="after")
    def _check_columns(self) -> TextClassification:
        if len(self.text_columns()) not in (1, 2):
            raise ValueError("`text` takes one column, or two for pairs")
        if not self.label_columns():
            raise ValueError("`label` names no column")
        return self

    @property
    def is_multi_label(self) -> bool:
        """Whether an example can carry any number of labels."""
        return self.multi_label or isinstance(self.label, list)

    def text_columns(self) -> tuple[str, ...]:
        """The column of the text, or the two of a pair."""
        return (self.text,) if isinstance(self.text, str) else tuple(self.text)

    def label_columns(self) -> tuple[str, ...]:
        """The column of the class, or the columns of the labels."""
        return (self.label,) if isinstance(self.label, str) else tuple(self.label)

    def check(self, facts: ModelFacts) -> None:
        """Refuse encoder-decoders, and lengths beyond the model's positions."""
        check_family(facts)
        check_length(self.max_length, facts)

    def nullable_columns(self) -> tuple[str, ...]:
        """A row without any of several labels is one to which none applies."""
        return self.label_columns() if self.multi_label and isinstance(self.label, str) else ()

    def tidy_rows(self, split: Split) -> Split:
        """Blank texts and classes are missing; a row without any of several labels has an empty list of them."""
        split = without_blank_texts(split, self.text_columns())
        nothing: Any = [] if self.nullable_columns() else None
        return with_columns(split, self.label_columns(), lambda value: tidy_value(value, nothing))

    def classes(self, split: Split) -> Collection[str]:
        """The classes, or the labels."""
        return set(class_names(self._spellings(split)).values())

    def notices(self, splits: Mapping[str, Split], labels: tuple[str, ...]) -> dict[str, str]:
        """Classes that are spelt in several ways; a validation split of one class."""
        spellings = [name for split in splits.values() for name in self._spellings(split)]
        notices = {} if isinstance(self.label, list) else notices_of_spellings(spellings, labels)
        if self.multi_label and (other := other_separator(labels)):
            notices["labels_may_be_several"] = (
                f"{other[0]!r} is one label as it stands, and its parts are labels too: if it means several, set "
                f"`task.label_separator: {other[1]!r}`"
            )
        validation = splits.get("validation")
        if validation is not None and not self.is_multi_label and len(self.classes(validation)) == 1:
            notices["validation_has_one_class"] = (
                f"every example of the validation split is of the class {self._classes(validation)[0]!r}: it cannot "
                "tell a model that knows the classes from one that always says this one"
            )
        return notices

    def why_not_measured(self, metric: str, split: Split, labels: tuple[str, ...]) -> str | None:
        """AUROC and Matthews need several classes, F1 over labels needs one label at least."""
        if metric == ("matthews" if self.is_multi_label else "micro_f1"):
            return f"it is not one of {'several labels' if self.is_multi_label else 'one class'} per text"
        find = class_finder(labels)
        rows = [{find(name) for name in self._labels_of(split, row)} for row in range(len(split))]
        found = set[str | None]().union(*rows)
        if self.is_multi_label:
            if metric == "auroc" and not any(0 < sum(name in row for row in rows) < len(rows) for name in labels):
                return "no label has both examples that carry it and examples that do not"
            return "no example carries any label" if metric.endswith("_f1") and not found else None
        if metric == "auroc" and len(found) < len(labels):
            missing = [name for name in labels if name not in found]
            return f"it needs examples of every class, and there are none of {', '.join(map(repr, missing[:5]))}"
        return f"every example is of the class {found.pop()!r}" if metric == "matthews" and len(found) == 1 else None

    def strata(self, split: Split) -> list[str] | None:
        """The class of each row; combinations of labels are too many to stratify by."""
        return None if self.is_multi_label else self._classes(split)

    def learn_labels(self, train: Split) -> tuple[str, ...]:
        """The names of the classes in the training split, sorted; numbers in the order of numbers."""
        if isinstance(self.label, list):
            return tuple(self.label)
        names = self.classes(train)
        if len(names) < 2 and not (self.multi_label and names):
            raise DataError(
                f"every training example has the label {next(iter(names), 'nothing')!r}; two classes are needed",
                where=f"{train.source or 'data'}, column `{self.label}`",
                hint="Choose another label column, or more data.",
            )
        return in_order(names)

    def check_split(self, split: Split, labels: tuple[str, ...]) -> None:
        """Every label must be one of those seen in training."""
        find = class_finder(labels)
        for row in range(len(split)):
            for name in self._labels_of(split, row):
                if find(name) is None:
                    raise DataError(
                        f"the label {name!r} of the {split.name} split does not occur in the training split",
                        where=split.where(row),
                        hint=did_you_mean(tidy(name), labels),
                    )

    def head(self, labels: tuple[str, ...]) -> Head:
        """A linear layer over one vector per text."""
        names = dict(enumerate(labels))
        return Head(
            auto_class="AutoModelForSequenceClassification",
            config={
                "num_labels": len(labels),
                "id2label": names,
                "label2id": {name: position for position, name in names.items()},
                "problem_type": "multi_label_classification" if self.is_multi_label else "single_label_classification",
            },
        )

    def encode(self, split: Split, tokenizer: Any, labels: tuple[str, ...]) -> EncodedSplit:
        """Tokens, and ``label``: a class's position, or a 0/1 vector of labels."""
        return encode_texts(
            split,
            self.text_columns(),
            self.targets(split, labels),
            tokenizer=tokenizer,
            max_length=self.max_length,
            separator=self.separator,
        )

    def targets(self, split: Split, labels: tuple[str, ...]) -> list[Any]:
        """For each row the position of its class, or a 0/1 vector of labels."""
        positions = {name: position for position, name in enumerate(labels)}
        find = class_finder(labels)
        targets: list[Any] = []
        for row in range(len(split)):
            own = {positions[find(name) or name] for name in self._labels_of(split, row)}
            targets.append([float(p in own) for p in range(len(labels))] if self.is_multi_label else own.pop())
        return targets

    def placeholder(self, length: int, labels: tuple[str, ...]) -> Example:
        """The first class, or no label at all."""
        return {"input_ids": [0] * length, "label": [0.0] * len(labels) if self.is_multi_label else 0}

    def collate(self, examples: Sequence[Example], pad_token_id: int) -> dict[str, Tensor]:
        """Padded tokens, and ``labels``: batch, or batch × labels."""
        import torch

        return {**pad(examples, pad_token_id), "labels": torch.tensor([example["label"] for example in examples])}

    def logits(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """Logits, batch × classes."""
        return sequence_logits(model, batch)

    def loss(self, logits: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        """Cross-entropy (binary, averaged over the labels, for several), summed over the examples."""
        from torch.nn import functional

        if self.is_multi_label:
            each = functional.binary_cross_entropy_with_logits(logits.float(), batch["labels"], reduction="none")
            return each.mean(dim=1).sum()
        terms = self.class_terms(logits, batch)
        return functional.cross_entropy(
            *terms, weight=weights_like(terms[0], self), reduction="sum", label_smoothing=self.label_smoothing
        )

    @property
    def has_class_targets(self) -> bool:
        """Not where any number of labels may apply."""
        return not self.is_multi_label

    def class_terms(self, logits: Tensor, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """One term an example."""
        return logits.float(), batch["labels"]

    @property
    def takes_class_weights(self) -> bool:
        """As it has class targets."""
        return self.has_class_targets

    def class_indices(self, example: Example) -> Sequence[int]:
        """The one class."""
        return [example["label"]]

    def loss_terms(self, batch: Mapping[str, Tensor]) -> int:
        """One term an example."""
        return len(batch["labels"])

    def predict(self, logits: Tensor, batch: Mapping[str, Tensor], labels: tuple[str, ...]) -> list[Prediction]:
        """The most likely class with every class's probability; or the labels that are more likely than not."""
        targets = batch["labels"].tolist()
        if self.is_multi_label:
            scores = logits.float().sigmoid().tolist()
            return [
                Prediction(
                    label=[name for name, is_on in zip(labels, target, strict=True) if is_on],
                    prediction=[name for name, score in zip(labels, row, strict=True) if score > 0.5],
                    scores=row,
                )
                for target, row in zip(targets, scores, strict=True)
            ]
        scores = logits.float().softmax(dim=-1).tolist()
        best = logits.argmax(dim=-1).tolist()
        return [
            Prediction(label=labels[target], prediction=labels[choice], scores=row)
            for target, choice, row in zip(targets, best, scores, strict=True)
        ]

    def scorer(self, labels: tuple[str, ...]) -> Scorer:
        """Metrics for one label, or for several."""
        return MultiLabelScorer(labels) if self.is_multi_label else ClassScorer(labels)

    def placeholder_labels(self, split: Split, labels: tuple[str, ...]) -> Mapping[str, Sequence[Any]]:
        """No label at all, or the first class where there must be one."""
        filler: Any = labels[0]
        if self.is_multi_label:
            filler = "0" if isinstance(self.label, list) else []
        return {column: [filler] * len(split) for column in self.label_columns()}

    def answer(self, prediction: Prediction, inputs: Mapping[str, Any], labels: tuple[str, ...]) -> dict[str, Any]:
        """The class with its probability, or the labels; and the probability of each."""
        scores = dict(zip(labels, prediction.scores, strict=True))
        score = {} if self.is_multi_label else {"score": scores[prediction.prediction]}
        return {"prediction": prediction.prediction, **score, "scores": scores}

    def confidences(self, prediction: Prediction, labels: tuple[str, ...]) -> list[tuple[float, bool]]:
        """Of the chosen class; or of the decision on every label."""
        if not self.is_multi_label:
            return [(max(prediction.scores), prediction.prediction == prediction.label)]
        return [
            (max(score, 1 - score), (name in prediction.prediction) == (name in prediction.label))
            for name, score in zip(labels, prediction.scores, strict=True)
        ]

    def _classes(self, split: Split) -> list[str]:
        values = split.columns[self.label_columns()[0]]
        names = class_names(values)
        return [names[label_key(tidy(value))] for value in values]

    def _spellings(self, split: Split) -> list[Any]:
        """Every value of the label column, or every label of it, as it is written."""
        return [name for row in range(len(split)) for name in self._labels_of(split, row)]

    def _labels_of(self, split: Split, row: int) -> list[Any]:
        if isinstance(self.label, list):
            return [name for name in self.label if _is_on(split, name, row)]
        value = split.columns[self.label][row]
        if isinstance(value, dict):
            raise DataError(
                f"the column `{self.label}` holds an object, {value!r:.60}, and no label",
                where=split.where(row),
                hint=f"Name the field that is the label: `task.label: {self.label}.{next(iter(value), 'name')}`.",
            )
        if not self.multi_label:
            if isinstance(value, list | tuple):
                raise DataError(
                    f"the column `{self.label}` holds a list, {value!r:.60}, and no label",
                    where=split.where(row),
                    hint="Set `task.multi_label: true`: a text may then have any number of labels.",
                )
            return [value]
        parts = value if isinstance(value, list) else split_labels(str(value), self.label_separator)
        return [part for part in parts if part is not None and not is_blank(str(part))]


def _is_on(split: Split, column: str, row: int) -> bool:
    value = label_key(tidy(split.columns[column][row])).lower()
    if value in {"1", "true"}:
        return True
    if value in {"0", "false"}:
        return False
    raise DataError(
        f"the column `{column}` of a multi-label task holds {value!r}; 0 or 1 is needed", where=split.where(row)
    )

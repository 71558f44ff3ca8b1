"""Text classification: binary, multi-class, or any number of labels per text."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field, NonNegativeFloat, PositiveInt, PrivateAttr, model_validator

from peftlab.core.errors import DataError, did_you_mean
from peftlab.core.model_facts import ModelFacts
from peftlab.core.splits import EncodedSplit, Example, Split
from peftlab.core.task import TASKS, Head, Prediction, Scorer
from peftlab.core.task_guess import Guesser
from peftlab.tasks._class_answers import THRESHOLDS, ClassAnswers
from peftlab.tasks._class_losses import binary_focal_terms, focal_loss
from peftlab.tasks._label_columns import labels_of
from peftlab.tasks._labels import (
    class_finder,
    class_names,
    in_order,
    label_key,
    notices_of_separators,
    notices_of_spellings,
    tidy,
    tidy_value,
)
from peftlab.tasks._measurable import why_not_measured
from peftlab.tasks._scorers import ClassScorer, MultiLabelScorer
from peftlab.tasks._several_labels import label_predictions
from peftlab.tasks._thresholds import as_logits, describe_thresholds, thresholds
from peftlab.tasks._weights import weights_like
from peftlab.tasks.guesses.classes import guess_classes
from peftlab.tasks.text_inputs import (
    PADDING,
    check_family,
    check_length,
    check_text_columns,
    encode_texts,
    model_inputs,
    one_token,
    pad,
    sequence_logits,
    token_mean,
    with_columns,
    without_blank_texts,
)
from peftlab.tasks.windows import (
    ROWS,
    WEIGHTS,
    Windows,
    check_stride,
    describe_windows,
    encode_in_windows,
    placeholder_rows,
    pooled,
    rows_of,
    window_weights,
)

if TYPE_CHECKING:
    from torch import Tensor, nn

MEAN_OF_TOKENS = "The logits of a text are the mean of its tokens' logits, padding left out."


@TASKS.register("text_classification")
class TextClassification(ClassAnswers):
    """Choose one class of a text (or of a pair of texts), or any number of labels."""

    guess: ClassVar[Guesser] = staticmethod(guess_classes)
    peft_task_type: ClassVar[str] = "SEQ_CLS"
    collates_ahead: ClassVar[bool] = True
    takes_augmentation: ClassVar[bool] = True
    padding: ClassVar[Mapping[str, int]] = PADDING
    metrics: ClassVar[tuple[str, ...]] = ("accuracy", "macro_f1", "weighted_f1", "micro_f1", "matthews", "auroc")
    has_probabilities: ClassVar[bool] = True
    answer_keys: ClassVar[tuple[str, ...]] = (THRESHOLDS,)

    text: str | list[str] = Field("text", description="The column of the text, or a list of two for pairs.")
    label: str | list[str] = Field(
        "label", description="The column of the class. A list of columns with 0 and 1 makes the task multi-label."
    )
    known_classes: list[str] = Field(
        default_factory=list,
        description="Classes beside those of the training rows, for which the head keeps a place: a run can go on with "
        "rows of them.",
    )
    multi_label: bool = Field(
        False, description="The label column holds several labels: a list, or a separated string."
    )
    label_separator: str = Field(",", min_length=1, description="The separator between several labels in one string.")
    max_length: PositiveInt = Field(
        128, description="Longer texts are cut to this many tokens, or read in windows of so many."
    )
    windows: Windows | None = Field(
        None,
        description="Read longer texts in windows that overlap; the mean of their logits decides. null: they are cut.",
    )
    pooling: Literal["head", "mean"] = Field(
        "head",
        description="head: the model's own classification head, which often reads the first or the last token. mean: a "
        "linear layer over the mean of the tokens' states, as fits a base that was trained to embed texts.",
    )
    separator: str | None = Field(
        None,
        min_length=1,
        description="What comes between the two texts of a pair. null: what the tokenizer puts there, or else its "
        "separator or end token. The record names it.",
    )
    focal_gamma: NonNegativeFloat | None = Field(
        None,
        description="Focal loss with this γ, often 2: what the model has right and is sure of weighs less, the more "
        "so the larger it is. null: cross-entropy.",
    )
    thresholds: Literal["half", "validation"] = Field(
        "half",
        description="Of several labels: above which probability a label is given. half: 0.5. validation: for each "
        "label the one with the best F1 on the validation split, chosen after training and kept with the run.",
    )

    _temperature: float = PrivateAttr(1.0)

    @model_validator(mode="after")
    def _check_columns(self) -> Self:
        check_text_columns(self.text_columns(), self.label_columns())
        if not self.label_columns():
            raise ValueError("`label` names no column")
        if self.windows is not None and len(self.text_columns()) != 1:
            raise ValueError("`windows` are for single texts; of a pair both would have to be in every window")
        if self.thresholds != "half" and not self.is_multi_label:
            raise ValueError("`thresholds` are for several labels per text (multi_label: true, or a list of columns)")
        check_stride(self.windows, self.max_length)
        return self

    @property
    def is_multi_label(self) -> bool:
        """Whether an example can carry any number of labels."""
        return self.multi_label or isinstance(self.label, list)

    @property
    def has_class_probabilities(self) -> bool:
        """Not where any number of labels may apply."""
        return not self.is_multi_label

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
        notices |= notices_of_separators(labels) if self.multi_label else {}
        if not self.is_multi_label and (validation := splits.get("validation")) and len(self.classes(validation)) == 1:
            notices["validation_has_one_class"] = (
                f"every example of the validation split is of the class {self._classes(validation)[0]!r}: it cannot "
                "tell a model that knows the classes from one that always says this one"
            )
        return notices

    def why_not_measured(self, metric: str, split: Split, labels: tuple[str, ...]) -> str | None:
        """AUROC and Matthews need several classes, F1 over labels needs one label at least."""
        find = class_finder(labels)
        rows = [{find(name) for name in self._labels_of(split, row)} for row in range(len(split))]
        return why_not_measured(metric, rows, labels, is_multi_label=self.is_multi_label)

    def strata(self, split: Split) -> list[str] | None:
        """The class of each row; combinations of labels are too many to stratify by."""
        return None if self.is_multi_label else self._classes(split)

    def learn_labels(self, train: Split) -> tuple[str, ...]:
        """The names of the classes in the training split, sorted; numbers in the order of numbers."""
        if isinstance(self.label, list):
            return tuple(self.label)
        names = set(class_names([*self._spellings(train), *self.known_classes]).values())
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
                        f"the label {name!r}{split.of_it} does not occur in the training split",
                        where=split.where(row),
                        hint=did_you_mean(tidy(name), labels),
                    )

    def peft_task(self) -> str:
        """By the kind of its head."""
        return "TOKEN_CLS" if self.pooling == "mean" else self.peft_task_type

    def head(self, labels: tuple[str, ...]) -> Head:
        """A linear layer over one vector per text; over every token, whose mean is that of the mean of the states."""
        names = dict(enumerate(labels))
        return Head(
            auto_class=f"AutoModelFor{'Token' if self.pooling == 'mean' else 'Sequence'}Classification",
            config={
                "num_labels": len(labels),
                "id2label": names,
                "label2id": {name: position for position, name in names.items()},
                "problem_type": "multi_label_classification" if self.is_multi_label else "single_label_classification",
            },
        )

    def encode(self, split: Split, tokenizer: Any, labels: tuple[str, ...]) -> EncodedSplit:
        """Tokens, and ``label``: a class's position, or a 0/1 vector of labels."""
        targets, columns, length = self.targets(split, labels), self.text_columns(), self.max_length
        if self.windows is not None:
            return encode_in_windows(split, columns[0], targets, tokenizer, max_length=length, windows=self.windows)
        return encode_texts(split, columns, targets, tokenizer=tokenizer, max_length=length, separator=self.separator)

    def targets(self, split: Split, labels: tuple[str, ...]) -> list[Any]:
        """For each row the position of its class, or a 0/1 vector of labels."""
        positions = {name: position for position, name in enumerate(labels)}
        find = class_finder(labels)
        targets: list[Any] = []
        for row in range(len(split)):
            own = [positions[find(name) or name] for name in self._labels_of(split, row)]
            if not self.is_multi_label:
                targets.append(own[0])
                continue
            target = [0.0] * len(labels)  # one 0.0 for all: there may be thousands
            for position in own:
                target[position] = 1.0
            targets.append(target)
        return targets

    def placeholder(self, length: int, labels: tuple[str, ...]) -> Example:
        """The first class, or no label at all."""
        label: Any = [0.0] * len(labels) if self.is_multi_label else 0
        rows = {} if self.windows is None else {ROWS: placeholder_rows(length, self.max_length)}
        return {"input_ids": [0] * length, "label": label, **rows}

    def longest(self) -> int:
        """Of all windows together."""
        return self.max_length * (self.windows.most if self.windows else 1)

    @property
    def one_row_an_example(self) -> bool:
        """Not where a text has windows."""
        return self.windows is None

    def by_row(self, example: Example, row: int) -> Example | None:
        """The head reads one vector a text, or one a window."""
        return one_token(example, row) if self.windows is None else None

    def collate(self, examples: Sequence[Example], pad_token_id: int) -> dict[str, Tensor]:
        """Padded tokens, a row for each window; ``labels``: batch, or batch × labels."""
        import torch

        labels = torch.tensor([example["label"] for example in examples])
        if self.windows is None:
            return {**pad(examples, pad_token_id), "labels": labels}
        return {**pad(rows_of(examples), pad_token_id), "labels": labels, WEIGHTS: window_weights(examples)}

    def logits(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """Logits, batch × classes; of each window, where texts are read in windows."""
        if self.pooling == "mean":
            return token_mean(model(**model_inputs(batch)).logits, batch)
        return sequence_logits(model, batch)

    def of_examples(self, values: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        """The mean of a text's windows."""
        return pooled(values, batch)

    def loss(self, logits: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        """Cross-entropy or focal loss (binary, averaged over the labels, for several), summed over the examples."""
        from torch.nn import functional

        terms = self.class_terms(logits, batch)
        if self.is_multi_label:
            if self.focal_gamma is not None:
                return binary_focal_terms(*terms, self.focal_gamma).mean(dim=1).sum()
            return functional.binary_cross_entropy_with_logits(*terms, reduction="none").mean(dim=1).sum()
        if self.focal_gamma is not None:
            return focal_loss(*terms, self.focal_gamma, weights_like(terms[0], self))
        return functional.cross_entropy(
            *terms, weight=weights_like(terms[0], self), reduction="sum", label_smoothing=self.label_smoothing
        )

    @property
    def has_class_targets(self) -> bool:
        """Not where any number of labels may apply, nor with focal loss."""
        return not self.is_multi_label and self.focal_gamma is None

    def class_terms(self, logits: Tensor, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """One term an example."""
        return pooled(logits.float(), batch), batch["labels"]

    @property
    def takes_class_weights(self) -> bool:
        """Where a text has one class."""
        return not self.is_multi_label

    def class_indices(self, example: Example) -> Sequence[int]:
        """The one class."""
        return [example["label"]]

    def loss_terms(self, batch: Mapping[str, Tensor]) -> int:
        """One term an example."""
        return len(batch["labels"])

    def predict(self, logits: Tensor, batch: Mapping[str, Tensor], labels: tuple[str, ...]) -> list[Prediction]:
        """The most likely class with every class's probability; or the labels above their thresholds."""
        logits, targets = pooled(logits, batch), batch["labels"].tolist()
        if self.is_multi_label:
            known = self.learned.get(THRESHOLDS)
            limits = None if known is None else as_logits(known, labels, self._temperature)
            return label_predictions(logits, targets, labels, limits)
        # Half precision gives many texts the same score; float32 would put those apart that a temperature has divided.
        scores = logits.double().softmax(dim=-1).tolist()
        best = logits.argmax(dim=-1).tolist()
        return [
            Prediction(label=labels[target], prediction=labels[choice], scores=row)
            for target, choice, row in zip(targets, best, scores, strict=True)
        ]

    @property
    def learns_answers(self) -> bool:
        """Thresholds."""
        return self.thresholds == "validation"

    def learn_answers(self, predictions: Sequence[Prediction], labels: tuple[str, ...]) -> dict[str, Any]:
        """The threshold of every label, as a probability before any temperature."""
        given = ([item.scores for item in predictions], [item.label for item in predictions])
        return {THRESHOLDS: thresholds(*given, labels)}

    def tempered(self, temperature: float) -> Self:
        """Thresholds, and the prior of words, are of logits that are not divided."""
        (task := self.model_copy())._temperature = temperature
        return task

    @property
    def with_likelihood(self) -> Self:
        """Focal loss is least where the model is less sure than it may be."""
        return self if self.focal_gamma is None else self.model_copy(update={"focal_gamma": None})

    def usage_note(self) -> str:
        """What a label's probability must be above; how windows become one answer."""
        told = [MEAN_OF_TOKENS] if self.pooling == "mean" else []
        told += [describe_thresholds(self.learned[THRESHOLDS])] if THRESHOLDS in self.learned else []
        told += [describe_windows(self.windows, self.max_length)] if self.windows else []
        return " ".join(told)

    def scorer(self, labels: tuple[str, ...]) -> Scorer:
        """Metrics for one label, or for several."""
        return MultiLabelScorer(labels) if self.is_multi_label else ClassScorer(labels)

    def placeholder_labels(self, split: Split, labels: tuple[str, ...]) -> Mapping[str, Sequence[Any]]:
        """No label at all, or the first class where there must be one."""
        filler: Any = labels[0]
        if self.is_multi_label:
            filler = "0" if isinstance(self.label, list) else []
        return {column: [filler] * len(split) for column in self.label_columns()}

    def _classes(self, split: Split) -> list[str]:
        values = split.columns[self.label_columns()[0]]
        names = class_names(values)
        return [names[label_key(tidy(value))] for value in values]

    def _spellings(self, split: Split) -> list[Any]:
        """Every value of the label column, or every label of it, as it is written."""
        return [name for row in range(len(split)) for name in self._labels_of(split, row)]

    def _labels_of(self, split: Split, row: int) -> list[Any]:
        return labels_of(split, row, self.label, self.label_separator if self.multi_label else None)

"""The contract of a task: rows into batches, batches into a loss, logits into predictions and metrics."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self, TypeVar

from pydantic import PrivateAttr

from peftlab.core.config import RegisteredConfig
from peftlab.core.errors import ConfigError, UnsupportedError
from peftlab.core.model_facts import ModelFacts, TokenizerFacts
from peftlab.core.registry import Registry
from peftlab.core.splits import EncodedSplit, Example, Split

if TYPE_CHECKING:
    from torch import Tensor, nn

Result = TypeVar("Result")


@dataclass(frozen=True)
class Head:
    """The head that a task puts on a base model.

    Args:
        auto_class: transformers' auto class, such as ``AutoModelForSequenceClassification``.
        config: Settings of the model's config, such as ``num_labels``.
        is_new: Whether the head starts from nothing and so trains with every method; a language model's own does not.
        may_be_missing: Of a head that is not new: whether a checkpoint may lack it. What it lacks is new.
        notes: Further values for the model's config, for those who load the model without peftlab.
    """

    auto_class: str
    config: Mapping[str, Any]
    is_new: bool = True
    may_be_missing: bool = False
    notes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Prediction:
    """What a model says of one example, as it is stored."""

    label: Any
    prediction: Any
    scores: Sequence[float]


class Scorer(Protocol):
    """Metrics that take predictions as they come."""

    def add(self, predictions: Sequence[Prediction]) -> None:
        """Take in the predictions of a batch."""

    def compute(self) -> dict[str, float]:
        """All metrics over what was added."""


class Inference(Protocol):
    """How a model is asked: what a task needs beside model and examples to say what the model answers."""

    @property
    def tokenizer(self) -> Any:
        """Of the base model."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes."""

    @property
    def metric(self) -> str | None:
        """The only metric that is asked for, while training; None: all of them. Spares work such as generation."""

    @property
    def virtual_tokens(self) -> int:
        """Positions that the method puts before the text."""

    def compute(
        self, function: Callable[[Any, Mapping[str, Tensor]], Result], model: nn.Module, batch: Mapping[str, Tensor]
    ) -> Result:
        """Run a function of model and batch on the model's device, in the run's precision.

        Raises:
            RunFailedError: A result is not finite.
        """


class Task(RegisteredConfig, ABC):
    """A task. The docstring's first line is what ``peftlab ls tasks`` shows."""

    peft_task_type: ClassVar[str]
    metrics: ClassVar[tuple[str, ...]]
    """Names of the metrics that the task computes; the first is the default for choosing the best epoch."""
    has_probabilities: ClassVar[bool] = False
    """Whether scores are probabilities of decisions, which a temperature on the logits can calibrate."""
    fewest_decisions: ClassVar[int] = 10
    """Of decisions with another label than the most frequent one: with fewer, equal answers say nothing of a model."""
    predicts_from_logits: ClassVar[bool] = True
    """Whether ``predict`` of ``logits`` is all that a model says of an example; else ``predict_examples`` is asked."""
    generates_text: ClassVar[bool] = False
    """Whether evaluation also writes texts, token by token; estimates of memory leave that out, and say so."""
    labels_are_texts: ClassVar[bool] = False
    """Whether what is to be predicted is free text, of which several may be right for one text: then rows with equal
    texts are duplicates only where their labels are equal too."""
    train_rows_key: ClassVar[str | None] = None
    """Of a task that makes its own data where a recipe has no section ``data``: the key that says how many rows for
    training. None: it makes none."""

    _learned: dict[str, Any] = PrivateAttr(default_factory=dict)

    @property
    def supports_virtual_tokens(self) -> bool:
        """Whether methods that put virtual tokens before the text can be used with these settings."""
        return True

    @abstractmethod
    def text_columns(self) -> tuple[str, ...]:
        """The columns that hold text; also what makes two rows duplicates."""

    @abstractmethod
    def label_columns(self) -> tuple[str, ...]:
        """The columns that hold what is to be predicted."""

    def source_columns(self) -> tuple[str, ...]:
        """The columns to read from the source, of which ``arrange`` makes the text and label columns."""
        return (*self.text_columns(), *self.label_columns())

    def optional_columns(self) -> tuple[str, ...]:
        """Those of the source's columns that may be missing; ``arrange`` gets them as None in every row."""
        return ()

    def arrange(self, split: Split) -> Split:
        """Make a split with the text and label columns of the source's rows, before anything is removed or cut.

        Raises:
            DataError: Naming the row.
        """
        return split

    def nullable_columns(self) -> tuple[str, ...]:
        """Those of the source's columns in which an empty value says something, such as that no label applies."""
        return ()

    def tidy_rows(self, split: Split) -> Split:
        """Write in one way what tables write in several, such as blanks around a label; empty values are None.

        Called when a split is arranged, and for every part of a table that is predicted or scored; label columns may
        be missing then.
        """
        return split

    def classes(self, split: Split) -> Collection[str]:
        """The classes that occur in a split; empty where there are none."""
        return set(self.strata(split) or ())

    def number_columns(self) -> tuple[str, ...]:
        """Those of the source's columns that hold numbers, which tables write in several ways."""
        return ()

    def compared_texts(self, split: Split) -> list[Sequence[Any]]:
        """For each row the texts that make it equal to another one: strings, or lists of strings."""
        return list(zip(*(split.columns[column] for column in self.text_columns()), strict=True))

    def make_splits(self, seed: int) -> dict[str, Split]:
        """The data that the task makes itself: ``train``, and others of any name, of which all but train are scored.

        Raises:
            ConfigError: The task makes no data.
        """
        raise ConfigError(f"the task {self.registered_name} needs the section `data`", where="task")

    def build_tokenizer(self, train: Split, vocabulary_size: int) -> Any:
        """A new tokenizer for a model that starts from nothing.

        Args:
            train: The training split; nothing else may be looked at.
            vocabulary_size: Tokens at most.

        Raises:
            UnsupportedError: The task's models start from a checkpoint.
        """
        raise UnsupportedError(
            f"the task {self.registered_name} has no tokenizer of its own for a model that starts from nothing",
            hint="Name one with model.tokenizer.",
        )

    def strata(self, split: Split) -> list[str] | None:
        """The class of each row, by which splits are stratified; None where there are no classes."""
        return None

    def check(self, facts: ModelFacts) -> None:
        """Refuse a model that the task cannot use.

        Raises:
            UnsupportedError: With the reason.
        """

    @abstractmethod
    def learn_labels(self, train: Split) -> tuple[str, ...]:
        """The names of the classes, from the training split; empty where there are none.

        Raises:
            DataError: The labels cannot be used, such as a split with one class.
        """

    def learn(self, train: Split) -> dict[str, Any]:
        """What the task must know of the training split beside the classes, as plain JSON; the record holds it.

        Raises:
            DataError: The split cannot be learned from.
        """
        return {}

    def fitted(self, learned: Mapping[str, Any]) -> Self:
        """The same task, with what :meth:`learn` gave when the model was trained."""
        task = self.model_copy()
        task._learned = dict(learned)
        return task

    @property
    def learned(self) -> Mapping[str, Any]:
        """What :meth:`learn` gave; empty before."""
        return self._learned

    def notices(self, splits: Mapping[str, Split], labels: tuple[str, ...]) -> dict[str, str]:
        """How the labels were understood, where a person could think otherwise: a sentence each, for the record."""
        return {}

    def default_metric(self, validation: Split | None) -> str:
        """The metric of a recipe that names none: the first of the task's, or one that fits the data better."""
        return self.metrics[0]

    def why_not_measured(self, metric: str, split: Split, labels: tuple[str, ...]) -> str | None:
        """Why a metric would be constant, or not defined, on a split, whatever the model says; None: it is not."""
        return None

    @abstractmethod
    def check_split(self, split: Split, labels: tuple[str, ...]) -> None:
        """Check every row of a split against the labels.

        Raises:
            DataError: Naming the row.
        """

    def check_tokenizer(self, split: Split, tokenizer: TokenizerFacts) -> None:
        """Refuse rows of a split that the model's tokenizer, or its chat template, cannot show to the model.

        Raises:
            DataError: Naming the row.
            UnsupportedError: No row can be shown.
        """

    def at_time(self, now: datetime, tokenizer: TokenizerFacts | None, earlier: Task | None) -> Self:
        """The same task; where the model reads the time, it is one for good.

        Args:
            now: In UTC.
            tokenizer: Of the model, where it is known.
            earlier: The task of the run that is resumed, if one is; its time goes on.
        """
        return self

    @abstractmethod
    def head(self, labels: tuple[str, ...]) -> Head:
        """The head to put on the base model."""

    @abstractmethod
    def encode(self, split: Split, tokenizer: Any, labels: tuple[str, ...]) -> EncodedSplit:
        """Tokenise the rows of a split."""

    def placeholder(self, length: int, labels: tuple[str, ...]) -> Example:
        """An encoded example of so many tokens that says nothing: for estimates, where no text is at hand.

        Where tokens carry labels, as many do as can.
        """
        return {"input_ids": [0] * length, "label": 0}

    @abstractmethod
    def collate(self, examples: Sequence[Example], pad_token_id: int) -> dict[str, Tensor]:
        """Pad examples on the right: ``input_ids`` (batch × length), ``attention_mask``, ``labels`` and so on."""

    @abstractmethod
    def logits(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """Run the model on a batch, without its loss."""

    @abstractmethod
    def loss(self, logits: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        """The *sum* of the loss over the batch's terms, in float32; the loop divides by all terms of a step."""

    def training_loss(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """``loss`` of ``logits``; a task may reach the same sum without holding all logits at once."""
        return self.loss(self.logits(model, batch), batch)

    @abstractmethod
    def loss_terms(self, batch: Mapping[str, Tensor]) -> int:
        """How many terms ``loss`` sums up: examples, or labelled tokens."""

    @abstractmethod
    def predict(self, logits: Tensor, batch: Mapping[str, Tensor], labels: tuple[str, ...]) -> list[Prediction]:
        """Turn logits into predictions beside the true labels."""

    def predict_examples(
        self, model: nn.Module, examples: Sequence[Example], pad_token_id: int, inference: Inference
    ) -> list[Prediction]:
        """What the model, in eval mode, says of examples. By default ``predict`` of ``logits``."""
        batch = self.collate(examples, pad_token_id)
        logits = inference.compute(self.logits, model, batch)
        return self.predict(logits.cpu(), batch, inference.labels)

    @abstractmethod
    def scorer(self, labels: tuple[str, ...]) -> Scorer:
        """Fresh metrics."""

    def placeholder_labels(self, split: Split, labels: tuple[str, ...]) -> Mapping[str, Sequence[Any]]:
        """Values for the label columns of rows that have no label, so that they can be encoded like others.

        Raises:
            UnsupportedError: The task predicts nothing for rows without a label.
        """
        raise UnsupportedError(f"the task {self.registered_name} does not predict on texts without labels")

    def complete(self, model: nn.Module, *, may_add: bool) -> Task:
        """Build into a merged model, in place, what ``predict`` does to its logits: for tools that know no peftlab.

        Args:
            model: With plain layers.
            may_add: Whether parameters may be added that the architecture does not have.

        Returns:
            The task whose ``predict`` takes what the model gives now.
        """
        return self

    def comparable(self, logits: Tensor) -> Tensor:
        """Logits as they were before :meth:`complete`, so that a run's and an export's can be compared."""
        return logits

    def is_learned_alike(self, other: Task) -> bool:
        """Whether what two runs learned of their data is so alike that their models can be mixed."""
        return self.learned == other.learned

    def usage_note(self) -> str:
        """For the model card: what must be done with the model's outputs where peftlab does not do it."""
        return ""

    def answer(self, prediction: Prediction, inputs: Mapping[str, Any], labels: tuple[str, ...]) -> dict[str, Any]:
        """What a user is told of one prediction: plain JSON values, ``prediction`` among them.

        Args:
            prediction: From ``predict``; its ``label`` may be a placeholder.
            inputs: The text columns of the row.
            labels: Names of the classes.
        """
        return {"prediction": prediction.prediction, "scores": list(prediction.scores)}

    def decisions(self, prediction: Prediction) -> list[tuple[Any, Any]]:
        """The true label and the answer of each thing that is decided on an example: floats, or values to be hashed.

        A model whose answers are all alike, where the labels are not, has collapsed. Empty where answers say nothing
        of that.
        """
        return [(str(prediction.label), str(prediction.prediction))]

    def confidences(self, prediction: Prediction, labels: tuple[str, ...]) -> list[tuple[float, bool]]:
        """The probability of each decision on an example, and whether it was right."""
        return []


TASKS: Registry[Task] = Registry("task", package="peftlab.tasks", entry_point_group="peftlab.tasks")

"""The plugin contract: what a method and a task are, and what peftlab hands to them.

A method is one frozen config class whose fields are the recipe's keys; ``apply`` wraps the model, and the optional
hooks do what some methods need. A task is one too: it turns rows into batches, batches into a loss, and logits into
predictions and metrics. Neither imports torch at module level, so that listing and validating stay fast.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Protocol, Self, TypeVar

from pydantic import Field, PrivateAttr

from peftlab.config import RegisteredConfig
from peftlab.errors import ConfigError, UnsupportedError
from peftlab.record import Guard
from peftlab.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor, nn

Result = TypeVar("Result")

Family = Literal["encoder", "decoder", "encoder_decoder", "unknown"]

TargetModules = Annotated[
    Literal["all-linear"] | list[str],
    Field(description="'all-linear', or names of modules that must all match."),
]


CHECKPOINT_HEADS = frozenset(
    {"classifier", "pre_classifier", "score", "cls", "lm_head", "qa_outputs", "vocab_transform", "predictions"}
)
"""First words of the names that transformers gives the weights of a model's head."""


@dataclass(frozen=True)
class TokenizerFacts:
    """What is known of a model's tokenizer before it is loaded.

    Args:
        tokens: Every token and its id.
        chat_template: None: there is none.
    """

    tokens: Mapping[str, int]
    chat_template: str | None = None


@dataclass(frozen=True)
class ModelFacts:
    """What is known of a base model before its weights are loaded, and without torch.

    Args:
        path: As the recipe writes it.
        model_type: transformers' name of the architecture: ``bert``, ``gpt2``, ``llama``.
        family: Whether it reads both ways, or left to right.
        config: The content of ``config.json``.
        weights: Shape of every weight by its name in the checkpoint; None where no index is at hand.
        peft_task_type: Of the recipe's task; empty where none is known.
        tokenizer: Of the model; None where its files are not at hand.
    """

    path: str
    model_type: str
    family: Family
    config: Mapping[str, Any]
    weights: Mapping[str, tuple[int, ...]] | None = None
    peft_task_type: str = ""
    tokenizer: TokenizerFacts | None = None

    @property
    def embedding_rows(self) -> int | None:
        """How many tokens the model has embeddings for; None where its config does not say."""
        text = self.config.get("text_config")
        rows = self.config.get("vocab_size") or (text.get("vocab_size") if isinstance(text, Mapping) else None)
        return rows if isinstance(rows, int) else None

    @property
    def max_length(self) -> int | None:
        """The longest input in tokens, where the positions are limited."""
        for key in ("max_position_embeddings", "n_positions"):
            value = self.config.get(key)
            if isinstance(value, int) and value > 0:
                # RoBERTa's positions start after the padding token's id.
                return value - 2 if self.model_type in {"roberta", "xlm-roberta", "camembert"} else value
        return None

    def linear_modules(self) -> list[str]:
        """Names of modules with a weight matrix that is no embedding; empty where the weights are unknown."""
        return [
            name.removesuffix(".weight")
            for name, shape in (self.weights or {}).items()
            if name.endswith(".weight") and len(shape) == 2 and not is_embedding(name)
        ]

    def adaptable_modules(self) -> list[str]:
        """The linear modules that a method can adapt.

        Left out are the layer over the vocabulary, and the checkpoint's own head where the task puts another on it.
        """
        text = self.config.get("text_config")
        vocabulary = self.config.get("vocab_size") or (text or {}).get("vocab_size")
        heads = CHECKPOINT_HEADS if self.peft_task_type in ("SEQ_CLS", "TOKEN_CLS") else ()
        return [
            name
            for name in self.linear_modules()
            if (self.weights or {})[f"{name}.weight"][0] != vocabulary and name.partition(".")[0] not in heads
        ]


def is_embedding(weight_name: str) -> bool:
    """Whether a weight, by its name, is an embedding table rather than a projection."""
    last = weight_name.removesuffix(".weight").rpartition(".")[2]
    return "embed" in last or last in {"wte", "wpe", "relative_attention_bias"}


@dataclass(frozen=True)
class MethodContext:
    """What a method may need to wrap a model.

    Args:
        peft_task_type: peft's name of the task: ``SEQ_CLS``, ``TOKEN_CLS``, ``CAUSAL_LM``, …; None: of no known task.
        total_steps: Optimizer steps of the whole run.
        seed: The recipe's seed; torch's generators are seeded with it just before ``apply``.
        head_modules: Full names of the modules that the checkpoint does not hold (the task's head). They always
            train and are always saved; ``all-linear`` leaves them out.
        family: Whether the model is an encoder or a decoder.
    """

    peft_task_type: str | None
    total_steps: int
    seed: int = 0
    head_modules: tuple[str, ...] = ()
    family: Family = "unknown"


def is_matrix(name: str, parameter: Tensor) -> bool:
    """Whether a parameter is a matrix by its role: these decay, as in BERT's and GPT-3's training.

    Biases, norms and scalings do not: near zero they would silence what they scale. A scaling may have two dimensions
    of which one is 1, such as (IA)³'s vectors or AdaLoRA's singular values. The ``weight`` of a layer is a matrix all
    the same: a LoRA of rank 1, or a head with one output.
    """
    is_vector = parameter.ndim < 2 or (parameter.numel() == max(parameter.shape) and not name.endswith(".weight"))
    return not is_vector and not getattr(parameter, "_no_weight_decay", False)


class Method(RegisteredConfig, ABC):
    """A tuning method. The docstring's first line is what ``peftlab ls methods`` shows."""

    paper: ClassVar[str] = ""
    other_names: ClassVar[Mapping[str, str]] = {}
    """What it is called elsewhere, and what to write here: the hint for somebody who writes that."""
    """Where the method comes from: a link."""
    default_learning_rate: ClassVar[float] = 1e-3
    """What a recipe without ``training.learning_rate`` gets, with AdamW."""
    mergeable: ClassVar[bool] = False
    """Whether its weights can be folded into the base model's, or are changes of the base's own."""
    trains_base: ClassVar[bool] = False
    """Whether the base's own weights train as a whole: then the whole model is saved, and dropout is kept."""
    supports_gradient_checkpointing: ClassVar[bool] = True
    """Whether its adapters still learn when activations are computed twice."""
    search_space: ClassVar[Mapping[str, tuple[Any, ...]]] = {}
    """Recipe keys that matter to this method beside the learning rate, each with the values that a suite may
    try; the first is the default."""

    def check(self, facts: ModelFacts) -> None:
        """Refuse a model that the method cannot take, before anything is loaded.

        Raises:
            UnsupportedError: With the reason.
        """

    def check_quantization(self, quantization: str) -> None:
        """Refuse a base whose matrices are quantised, where the method cannot sit on one.

        Args:
            quantization: ``nf4``, ``fp4`` or ``int8``.

        Raises:
            UnsupportedError: With the reason.
        """
        if self.trains_base:
            raise UnsupportedError(
                f"{self.registered_name} trains the base's own matrices, and {quantization} matrices have no gradient",
                hint="Set model.quantization to null, or choose a method that freezes the base, such as lora.",
            )

    def check_added_tokens(self) -> None:
        """Refuse tokens that are added to the base, where their embeddings could not train or be saved.

        Raises:
            UnsupportedError: With the reason.
        """

    def check_offload(self) -> None:
        """Refuse a base whose matrices are fetched only while their layers compute, where the method needs more.

        Raises:
            UnsupportedError: With the reason.
        """
        if self.trains_base:
            raise UnsupportedError(
                f"{self.registered_name} trains the base's own matrices, and what trains must stay on the device",
                hint="Set model.offload to null, or choose a method that freezes the base, such as lora.",
            )

    @abstractmethod
    def apply(self, model: Any, context: MethodContext) -> Any:
        """Wrap a transformers model so that only what the method trains requires a gradient.

        Args:
            model: A ``PreTrainedModel`` with the task's head. It may be changed in place.
            context: Facts about the run.

        Returns:
            The model to train: a ``peft.PeftModel``, or the same model changed in place.
        """

    def extra_positions(self) -> int:
        """How many positions of the model the method takes up beside the text, such as a prompt's."""
        return 0

    def trains(self, name: str) -> bool:
        """Whether the base's own parameter of this name is meant to train, such as a bias for BitFit."""
        return self.trains_base

    def decays(self, name: str, parameter: Tensor) -> bool:
        """Whether weight decay falls on a trained parameter."""
        return is_matrix(name, parameter)

    def after_optimizer_step(self, model: nn.Module, step: int) -> None:
        """Called after each optimizer step (from 1), before the gradients are cleared."""

    def training_penalty(self, model: nn.Module) -> Tensor | None:
        """A scalar that is added to the loss while training, and only then."""
        return None

    def training_state(self, model: nn.Module) -> dict[str, Tensor]:
        """What the method must find again when a run is resumed, beside parameters and optimizer."""
        return {}

    def restore_training_state(self, model: nn.Module, state: Mapping[str, Tensor]) -> None:
        """Take up the state that ``training_state`` gave."""

    def may_be_kept(self, model: nn.Module, step: int) -> bool:
        """Whether the model as it is after this step may be what the run leaves; after the last one it always may."""
        return True

    def may_stay(self, name: str, parameter: Tensor) -> bool:
        """Whether a trained tensor may end where it began, as a matrix does whose every rank AdaLoRA has pruned."""
        return False

    def guards(self, model: nn.Module, context: MethodContext) -> dict[str, Guard]:
        """Checks of the trained model that only this method needs, by name."""
        return {}

    def before_save(self, model: Any) -> None:
        """Called before a ``PeftModel`` is saved by peft."""

    def saved_tensors(self, model: Any, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """What ``after_save`` makes of the tensors that peft has written; by default it leaves them as they are."""
        return tensors

    def after_save(self, model: Any, folder: Path) -> None:
        """Called when peft has written its files into ``folder``; they may be changed there."""


@dataclass(frozen=True)
class Split:
    """Some rows of a table, as columns.

    Args:
        name: ``train``, ``validation`` or ``test``.
        index: The row of each example in the source table, from 0.
        columns: Column name to values; all as long as ``index``.
        source: The table's name, for messages.
        notes: What ``arrange`` has merged, for the record.
    """

    name: str
    index: Sequence[int]
    columns: Mapping[str, Sequence[Any]]
    source: str = ""
    notes: Mapping[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.index)

    def where(self, position: int) -> str:
        """The place of a row, for messages: ``tweets.csv, row 18`` (rows counted from 1, without the header)."""
        return f"{self.source or self.name}, row {self.index[position] + 1}"


Example = dict[str, Any]
"""One encoded example: ``input_ids`` and what else the model takes, and the task's own keys."""


@dataclass(frozen=True)
class EncodedSplit:
    """A split, tokenised.

    Args:
        name: ``train``, ``validation`` or ``test``.
        index: The row of each example in the source table.
        examples: The encoded rows.
        notes: Counts that the record should hold, such as truncated texts.
    """

    name: str
    index: Sequence[int]
    examples: Sequence[Example]
    notes: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.examples)

    def lengths(self) -> list[int]:
        """Tokens of each example."""
        return [len(example["input_ids"]) for example in self.examples]


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


METHODS: Registry[Method] = Registry("method", package="peftlab.methods", entry_point_group="peftlab.methods")
TASKS: Registry[Task] = Registry("task", package="peftlab.tasks", entry_point_group="peftlab.tasks")

ProgressCallback = Callable[[str], None]
"""Takes one line that tells a person what is going on."""


class Reporter(Protocol):
    """Tells a person what a run is doing."""

    def say(self, line: str) -> None:
        """One line."""

    def start(self, description: str, total: int) -> None:
        """Long work begins: so many units."""

    def advance(self, units: int, detail: str = "") -> None:
        """Some units are done; the detail is a figure worth seeing, such as the loss."""

    def finish(self) -> None:
        """The long work that began last has ended."""


class Silent:
    """A reporter that tells nothing."""

    def say(self, line: str) -> None:
        """Nothing."""

    def start(self, description: str, total: int) -> None:
        """Nothing."""

    def advance(self, units: int, detail: str = "") -> None:
        """Nothing."""

    def finish(self) -> None:
        """Nothing."""

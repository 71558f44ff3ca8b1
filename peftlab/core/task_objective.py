"""The second part of a task, *objective*: which head it puts on the base, how examples become a batch and a loss."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from peftlab.core.splits import EncodedSplit, Example

if TYPE_CHECKING:
    from torch import Tensor, nn

    from peftlab.core.task_answers import Inference

HeadKind = Literal["new", "own", "none"]

SOFT_TARGETS = "soft_targets"
"""What an example, and a batch, may hold beside its class: the probability of every class, as another model says it."""


@dataclass(frozen=True)
class Head:
    """The head that a task puts on a base model.

    Args:
        auto_class: transformers' auto class, such as ``AutoModelForSequenceClassification``.
        config: Settings of the model's config, such as ``num_labels``.
        may_be_missing: Of a head that is not new: whether a checkpoint may lack it. What it lacks is new.
        notes: Further values for the model's config, for those who load the model without peftlab.
        kind: ``new``: it starts from nothing, and so trains with every method. ``own``: the model's own, such as a
            language model's. ``none``: there is none; what the task needs it makes of the hidden states, and nothing
            trains beside what the method trains.
        bias_trains: Of a new head: whether the bias of its last layer trains. False where the loss stays the same when
            one number is added to an output of all inputs, since it only compares them: the bias is fixed then.
    """

    auto_class: str = "AutoModel"
    config: Mapping[str, Any] = field(default_factory=dict)
    may_be_missing: bool = False
    notes: Mapping[str, Any] = field(default_factory=dict)
    kind: HeadKind = "new"
    bias_trains: bool = True

    @property
    def is_new(self) -> bool:
        """Whether it starts from nothing."""
        return self.kind == "new"


class UntouchedBase(Protocol):
    """The base model before the method changes it, as ``prepare`` may ask it."""

    def values(self, split: EncodedSplit, function: Callable[[nn.Module, Mapping[str, Tensor]], Tensor]) -> Tensor:
        """What a function of model and batch gives for every example of a split, in their order.

        It runs in eval mode, without gradients, on the run's device and in its precision, a batch at a time.

        Args:
            split: Of the task's splits.
            function: Gives one row an example of the batch (examples × …).
        """


@dataclass(frozen=True)
class Policy:
    """The model as it is between two steps, as ``roll_out`` may ask it.

    Args:
        model: In eval mode.
        reference: The untouched base, where the task ``needs_reference``.
        inference: How both are asked.
        pad_token_id: For padding.
        others: Draws at most so many training examples that this roll-out has not had yet, with the row of each; none
            are left at some time.
        fresh: How many of the examples, the first ones, the model learns from as it is now.
    """

    model: nn.Module
    reference: nn.Module | None
    inference: Inference
    pad_token_id: int
    others: Callable[[int], tuple[Sequence[Example], Sequence[str]]] = lambda _: ((), ())
    fresh: int = 0


@dataclass(frozen=True)
class RollOut:
    """What ``roll_out`` made.

    Args:
        examples: One for each that was given, or for another one in its place: what ``collate`` takes from now on, as
            plain values. A checkpoint holds those of steps that are still to come.
        figures: What the metrics log shows beside the loss, such as the mean reward.
    """

    examples: Sequence[Example]
    figures: Mapping[str, float]


class TaskObjective(ABC):
    """Examples into a loss. A new task writes ``collate``, ``logits`` and ``loss``; ``head`` where it needs one."""

    peft_task_type: ClassVar[str] = "FEATURE_EXTRACTION"
    """peft's name of the task; by default that of models without a head."""
    divisible: ClassVar[bool] = True
    """Whether a batch may be cut: whether its loss is the sum of its parts'. It is not where examples of a batch are
    compared with one another. Then batches are never cut, whether to save memory or to make a step of several."""
    caches_gradients: ClassVar[bool] = False
    """Of a task that is not divisible: whether ``parts`` cuts the work on a batch whose loss stays whole."""
    collates_ahead: ClassVar[bool] = False
    """Whether ``collate`` gives the same whenever it is called: it draws no random numbers and keeps nothing. Then
    batches for a card are made one step ahead, in a thread of their own."""
    padding: ClassVar[Mapping[str, int]] = {}
    """What ``collate`` fills the columns beyond an example's end with, by key; ``input_ids`` need not be named. A task
    that names every key which is as long as the batch (batch × length, or shorter) says that a batch may be made longer
    so, and its loss stays the same. Empty: it may not."""

    @property
    def computes_in_parts(self) -> bool:
        """Whether ``training.micro_batch_size`` can spare memory without changing the result."""
        return self.divisible or self.caches_gradients

    @property
    def one_row_an_example(self) -> bool:
        """Whether ``collate`` and ``logits`` give a row for each example; a text with windows has several."""
        return True

    @property
    def needs_reference(self) -> bool:
        """Whether ``roll_out`` asks the untouched base; then a copy of it lies in memory beside the model."""
        return False

    @property
    def why_no_dropout(self) -> str:
        """Why the model must drop nothing at random in training with these settings; empty: it may."""
        return ""

    @property
    def supports_virtual_tokens(self) -> bool:
        """Whether methods that put virtual tokens before the text can be used with these settings."""
        return True

    def peft_task(self) -> str:
        """Peft's name of the task with this model; by default ``peft_task_type``."""
        return self.peft_task_type

    def head(self, labels: tuple[str, ...]) -> Head:
        """The head to put on the base model; by default none."""
        return Head(kind="none")

    def of_examples(self, values: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        """One row an example (examples × …) from one row of ``input_ids`` each; by default these are the same.

        A task that spreads a text over several rows says how they become one.
        """
        return values

    def length(self, example: Example) -> int:
        """Tokens of an example, or what takes memory and time like tokens: batches and speed are counted in them."""
        return len(example["input_ids"])

    def longest(self) -> int:
        """The length of the longest example that the settings allow, for estimates without data."""
        return int(getattr(self, "max_length", 128))

    def by_row(self, example: Example, row: int) -> Example | None:
        """The example with a row's number in place of what the base reads: the one token of its ``input_ids``.

        Only where the logits need nothing of a frozen base but one vector an example. Then a head that trains alone is
        given vectors that are computed once: the base's stand-in looks them up by the number, and everything after it
        is the task's own code. None: the logits need more.
        """
        return None

    def lengths(self, examples: Sequence[Example]) -> list[int]:
        """The length of each example."""
        return [self.length(example) for example in examples]

    def prepare(
        self, splits: Mapping[str, EncodedSplit], base: UntouchedBase
    ) -> Mapping[str, Mapping[str, Tensor]] | None:
        """What must be computed once with the untouched base, such as the log-probabilities of a reference.

        Called before the method is applied. The result is kept in the run's folder, and a resumed run reads it there.
        While it is computed the examples do not have it yet: ``collate`` leaves it out then.

        Args:
            splits: All splits, by name.
            base: Answers for them.

        Returns:
            For each split, by name, tensors with one row an example; each example gets its row under the tensor's
            name, as a number or a list, before it is collated. None: there is nothing to prepare.
        """
        return None

    def lengthened(self, batch: Mapping[str, Tensor], length: int, pad_token_id: int) -> dict[str, Tensor]:
        """A batch that is padded on the right to more tokens; its loss stays the same.

        Args:
            batch: From ``collate``, of a task that says its ``padding``.
            length: Tokens of a row.
            pad_token_id: For ``input_ids``.
        """
        from torch.nn import functional

        fillers = {"input_ids": pad_token_id, **self.padding}
        return {
            key: functional.pad(value, (0, length - value.shape[1]), value=fillers[key])
            if key in fillers and value.shape[1] < length
            else value
            for key, value in batch.items()
        }

    def padded_tokens(self, batch: Mapping[str, Tensor]) -> int:
        """Places of a batch for tokens, counted like ``length``, padding included."""
        return batch["attention_mask"].numel()

    def roll_out(self, policy: Policy, examples: Sequence[Example], where: Sequence[str]) -> RollOut:
        """What must be computed with the model as it is now, such as texts that it writes and what they are worth.

        A task that has it is asked before a step, for the examples of the next ``roll_out_steps`` steps together.
        Whatever it draws comes from torch's generators, whose states a checkpoint holds: so a resumed run goes on bit
        for bit. ``collate`` must take examples that were not rolled out too: before training, memory and speed are
        measured on them.

        Args:
            policy: The model, and how it is asked.
            examples: Of the training split, in the order of the steps.
            where: The row of each, for messages.
        """
        return RollOut(examples, {})

    def roll_out_steps(self) -> int:
        """For how many steps the model is asked at once; what it wrote is older than the model in all but the first."""
        return 1

    def fit_head(self, policy: Policy, examples: Sequence[Example]) -> None:  # noqa: B027
        """Set the head's weights in place where they are computed and not trained; by default nothing is done.

        Called before each evaluation while training, and once after the last step.

        Args:
            policy: The model, and how it is asked.
            examples: Of the training split.
        """

    @abstractmethod
    def collate(self, examples: Sequence[Example], pad_token_id: int) -> dict[str, Tensor]:
        """Pad examples on the right: ``input_ids`` (batch × length), ``attention_mask``, ``labels`` and so on.

        An example of several texts has a row for each; what belongs to which is the task's own.
        """

    @abstractmethod
    def logits(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """What the task makes of the model's outputs on a batch, without its loss: logits, or vectors."""

    @abstractmethod
    def loss(self, logits: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        """The *sum* of the loss over the batch's terms, in float32; the loop divides by all terms of a step."""

    def training_loss(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """``loss`` of ``logits``; a task may reach the same sum without holding all logits at once."""
        return self.loss(self.logits(model, batch), batch)

    def parts(self, batch: Mapping[str, Tensor], size: int) -> list[dict[str, Tensor]]:
        """Parts of a batch whose ``logits``, one after the other, are those of the batch, where the loss needs all.

        Args:
            batch: As ``collate`` gives it.
            size: Examples of a part.

        Raises:
            NotImplementedError: The task does not say ``caches_gradients``.
        """
        raise NotImplementedError("the batches of this task have no parts")

    @property
    def has_class_targets(self) -> bool:
        """Whether each term of the loss is the cross-entropy of one class: then ``class_terms`` gives them.

        The loss of such a task takes ``label_smoothing`` into account, as torch's ``cross_entropy`` does.
        """
        return False

    def class_terms(self, logits: Tensor, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Of every term of the loss the logits (terms × classes, in float32), and the class (terms).

        Raises:
            NotImplementedError: The task has no class targets.
        """
        raise NotImplementedError("the terms of this loss are no classes")

    @property
    def takes_class_weights(self) -> bool:
        """Whether the loss minds ``class_weights``: then ``class_indices`` gives the classes of an example."""
        return False

    def class_indices(self, example: Example) -> Sequence[int]:
        """The class of each of an example's terms.

        Raises:
            NotImplementedError: The task takes no class weights.
        """
        raise NotImplementedError("the classes of this task have no weights")

    def loss_terms(self, batch: Mapping[str, Tensor]) -> int:
        """How many terms ``loss`` sums up: examples, or labelled tokens. By default the rows of ``input_ids``."""
        return len(batch["input_ids"])

"""The third part of a task, *answers*: what a model says of examples, how that is scored, and what people are told."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self, TypeVar

from peftlab.core.metric_scorer import MetricScorer
from peftlab.core.report_parts import ComparedMethod, ReportPart, Units
from peftlab.core.splits import EncodedSplit, Split

if TYPE_CHECKING:
    from torch import Tensor, nn

    from peftlab.core.task_objective import Policy

Result = TypeVar("Result")


@dataclass(frozen=True)
class Prediction:
    """What a model says of one example, as it is stored.

    Args:
        label: What is right.
        prediction: What the model says.
        scores: Numbers behind it, such as probabilities.
        loss: Of tasks that predict by ``predict_examples``: the sum of the example's loss, where it came about anyway.
            While training it parts evaluations of one score; it is not stored.
        loss_terms: How many terms that sum has.
    """

    label: Any
    prediction: Any
    scores: Sequence[float]
    loss: float | None = None
    loss_terms: int = 1


@dataclass(frozen=True)
class Comparison:
    """What a tuned model and its untouched base write to the same prompts.

    Args:
        scores: By metric, beside those of the predictions; each is registered in ``METRICS``.
        rows: One for each prompt, as plain values; they are kept in the run's folder.
    """

    scores: Mapping[str, float]
    rows: Sequence[Mapping[str, Any]]


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


class TaskAnswers(ABC):
    """Logits into answers. A new task writes ``metrics`` and ``predict``."""

    registered_name: ClassVar[str]
    required_attributes: ClassVar[tuple[str, ...]] = ("metrics",)
    metrics: ClassVar[tuple[str, ...]]
    """Names of the metrics that the task computes; the first is the default for choosing the best epoch. Each is
    registered in ``METRICS``, where its direction is."""
    has_probabilities: ClassVar[bool] = False
    """Whether scores are probabilities of decisions, which a temperature on the logits can calibrate."""
    fewest_decisions: ClassVar[int] = 10
    """Of decisions with another label than the most frequent one: with fewer, equal answers say nothing of a model."""
    predicts_from_logits: ClassVar[bool] = True
    """Whether ``predict`` of ``logits`` is all that a model says of an example; else ``predict_examples`` is asked."""
    ranks_whole_split: ClassVar[bool] = False
    """Whether what is predicted of an example depends on all others of its split, as a rank among them does. Then
    ``rank`` gets all predictions of a split before they are scored and stored."""
    why_no_answers: ClassVar[str] = ""
    """Of a task whose model is only a beginning for others: why it says nothing of new texts, as the rest of a
    sentence that begins with the run's name."""
    why_not_onnx: ClassVar[str] = ""
    """Of a task whose logits are more than what the model makes of tokens: why, as the rest of a sentence."""
    generates_text: ClassVar[bool] = False
    """Whether evaluation also writes texts, token by token; estimates of memory leave that out, and say so."""

    pools_answers: ClassVar[bool] = False
    """Whether ``pool`` makes one answer of several models': then their runs can be an ensemble."""

    @property
    def has_class_probabilities(self) -> bool:
        """Whether ``scores`` of a prediction are the probabilities of the classes, of which a text has just one."""
        return False

    def default_metric(self, validation: Split | None) -> str:
        """The metric of a recipe that names none: the first of the task's, or one that fits the data better."""
        return self.metrics[0]

    def why_not_measured(self, metric: str, split: Split, labels: tuple[str, ...]) -> str | None:
        """Why a metric would be constant, or not defined, on a split, whatever the model says; None: it is not."""
        return None

    @abstractmethod
    def predict(self, logits: Tensor, batch: Mapping[str, Tensor], labels: tuple[str, ...]) -> list[Prediction]:
        """Turn logits into predictions beside the true labels, one an example."""

    @property
    def learns_answers(self) -> bool:
        """Whether something of the answers is chosen on the validation split after training: see ``learn_answers``."""
        return False

    def learn_answers(self, predictions: Sequence[Prediction], labels: tuple[str, ...]) -> dict[str, Any]:
        """What is chosen on the validation split after training, such as thresholds, as plain JSON.

        It becomes a part of ``learned``, and so goes with the run, its record and its exports.

        Args:
            predictions: Of the validation split, by the model that the run leaves.
            labels: Names of the classes.
        """
        return {}

    answer_keys: ClassVar[tuple[str, ...]] = ()
    """What ``learn_answers`` gives, by its names in ``learned``."""

    def tempered(self, temperature: float) -> Self:
        """The task whose ``predict`` and ``loss`` take logits divided by a temperature; by default this one."""
        return self

    @property
    def with_likelihood(self) -> Self:
        """The task whose ``loss`` is minus the log-likelihood, by which a temperature is fitted; by default this one.

        Another loss, such as the focal loss, is least where probabilities are not those that occur.
        """
        return self

    def rank(self, predictions: Sequence[Prediction]) -> Sequence[Prediction]:
        """The predictions of a whole split as they are scored and stored; see ``ranks_whole_split``."""
        return predictions

    def pool(self, said: Sequence[Prediction], labels: tuple[str, ...]) -> Prediction:
        """One answer of what several models say of the same example; see ``pools_answers``.

        Raises:
            NotImplementedError: The task does not say ``pools_answers``.
        """
        raise NotImplementedError("answers of this task have no mean")

    def scorer(self, labels: tuple[str, ...]) -> Scorer:
        """Fresh metrics; by default ``metrics``, each by its ``score`` of labels and predictions in ``METRICS``."""
        return MetricScorer(self.metrics)

    def comparable(self, logits: Tensor) -> Tensor:
        """Logits as they were before ``Task.complete``, so that a run's and an export's can be compared."""
        return logits

    def usage_note(self) -> str:
        """For the model card: what must be done with the model's outputs where peftlab does not do it."""
        return ""

    def companion_files(self, config: Any) -> Mapping[str, str]:
        """Files by which other tools know how a model is used, beside its weights and tokenizer; by default none.

        Args:
            config: Of the model, as transformers has it.

        Returns:
            The text of each file, by its path in the folder.
        """
        return {}

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
        of that. Of several right texts the one that was answered counts, or else the first.
        """
        right, said = prediction.label, prediction.prediction
        if isinstance(said, str) and isinstance(right, list):
            own = [str(text).strip() for text in right] or [""]
            said = said.strip()
            right = said if said in own else own[0]
        return [(str(right), str(said))]

    @property
    def compares_with_base(self) -> bool:
        """Whether ``compare_with_base`` is asked at the end of a run; then the base is loaded once more."""
        return False

    def compare_with_base(self, policy: Policy, split: EncodedSplit) -> Comparison:
        """What the tuned model and the base write, and how far they are from one another.

        Args:
            policy: The model, the untouched base, and how both are asked.
            split: Any but the one for training.
        """
        return Comparison({}, ())

    def confidences(self, prediction: Prediction, labels: tuple[str, ...]) -> list[tuple[float, bool]]:
        """The probability of each decision on an example, and whether it was right."""
        return []

    # --- what a report asks, which has records but no recipe --------------------------------------------------------

    @classmethod
    def compared_units(cls, scores: Callable[[], Sequence[Sequence[float]]]) -> Units | None:
        """What intervals and paired tests are over, where that is not the stored examples.

        Args:
            scores: Reads ``scores`` of a split's stored predictions; only asked where they are needed.

        Returns:
            None: they are over the examples.
        """
        return None

    @classmethod
    def report_parts(cls, methods: Sequence[ComparedMethod]) -> Sequence[ReportPart]:
        """The task's own figures and tables in a report, for the methods of one comparison, the best mean first.

        Reports call it without torch, so it may not import it.
        """
        return ()

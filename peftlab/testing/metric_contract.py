"""What every metric must keep: it is a number whichever order the examples come in, and knows which way is better."""

from __future__ import annotations

import math
import numbers
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from peftlab.core.metric import METRICS, Metric, signed
from peftlab.core.registry import Registry
from peftlab.core.task import TASKS
from peftlab.testing.broken_contract import BrokenContractError, require
from peftlab.testing.chance import asked_twice
from peftlab.testing.plugin_contract import PluginContract, Section, class_of

CLASSES = ("good", "bad", "so so")
FEW = 30


def _some_labels() -> list[Any]:
    return [CLASSES[at % 7 % 3] for at in range(FEW)]


def _some_predictions() -> list[Any]:
    return [label if at % 4 else CLASSES[at % 3] for at, label in enumerate(_some_labels())]


@dataclass(frozen=True)
class Scored:
    """A metric, and what it is tried on.

    Args:
        section: ``{"type": …}``.
        labels: What is right.
        predictions: What was predicted.
        comparable: Whether the labels could be predicted themselves.
    """

    section: Section
    labels: Sequence[Any]
    predictions: Sequence[Any]
    comparable: bool = True

    def __str__(self) -> str:
        return str(self.section.get("type", "unnamed"))


class MetricContract(PluginContract):
    """The tests of a metric. Inherit them in a file that pytest collects, and say which metric they are of.

    .. code-block:: python

        from peftlab.testing import MetricContract


        class TestCost(MetricContract):
            plugin = {"type": "cost"}

    It is tried on classes. Of something else, such as numbers, texts or lists, give ``labels`` and ``predictions``.
    """

    registry: ClassVar[Registry[Any]] = METRICS
    labels: ClassVar[Sequence[Any]] = tuple(_some_labels())
    """What is right for each example, as in ``predictions.parquet``; a dozen at least."""
    predictions: ClassVar[Sequence[Any]] = tuple(_some_predictions())
    """What was predicted: some of it right, some wrong."""
    comparable: ClassVar[bool] = True
    """Whether a prediction looks like a label, so that the labels themselves would be perfect predictions."""

    def build(self, section: Section) -> Metric:
        """The metric.

        Raises:
            BrokenContractError: There is none of this name.
        """
        __tracebackhide__ = True
        return class_of(self.registry, section)()  # type: ignore[no-any-return]

    def scored(self) -> Sequence[Scored]:
        """The metrics, and what each is tried on."""
        return [Scored(each, self.labels, self.predictions, self.comparable) for each in self.sections()]

    def parameters(self) -> Mapping[str, Sequence[Any]]:
        """Besides: ``scored`` is a metric, and what it is tried on."""
        return {**super().parameters(), "scored": self.scored()}

    def test_it_is_a_number_whichever_order_examples_come_in(self, scored: Scored) -> None:
        """Examples come from several processes and in batches of any size; none of them may be changed."""
        metric, labels, predictions = self.build(scored.section), list(scored.labels), list(scored.predictions)
        given = repr((labels, predictions))
        self._score(metric, labels, predictions)
        require(
            repr((labels, predictions)) == given,
            f"{scored} changes the labels or the predictions that it is given",
            hint="Make a copy: other metrics get the same lists.",
        )
        whole = asked_twice(str(scored), lambda: self._score(metric, labels, predictions), source="the examples")
        require(
            whole is not None,
            f"{scored} gives nothing for {len(labels)} examples",
            hint="Write `per_example` or `score`. If it is for other labels: give the class of the tests some.",
        )
        order = list(range(len(labels)))
        random.Random(0).shuffle(order)  # noqa: S311 - no secrets
        shuffled = self._score(metric, [labels[at] for at in order], [predictions[at] for at in order])
        require(
            _near(shuffled, whole),
            f"{scored} is {whole} of some examples, and {shuffled} of the same ones in another order",
            hint="Compare each label with the prediction beside it, and keep nothing between them.",
        )

    def test_better_predictions_have_a_better_value(self, scored: Scored) -> None:
        """``higher_is_better`` chooses the epoch and the method: the wrong way round, it chooses the worst."""
        if not scored.comparable:
            return
        metric = self.build(scored.section)
        perfect = self._score(metric, list(scored.labels), list(scored.labels))
        actual = self._score(metric, list(scored.labels), list(scored.predictions))
        if perfect is None or actual is None:
            return
        name = metric.registered_name
        require(
            signed(name, perfect) > signed(name, actual),
            f"{scored} is {perfect} where all is right and {actual} where some is wrong, and says "
            f"higher_is_better = {metric.higher_is_better}",
            hint="Turn it round. Where a prediction does not look like a label: comparable = False.",
        )

    def test_the_values_of_examples_are_those_of_the_metric(self, scored: Scored) -> None:
        """Their mean is the metric: intervals and paired tests are computed from them."""
        metric = self.build(scored.section)
        values = metric.per_example(list(scored.labels), list(scored.predictions))
        if values is None:
            return
        shape, count = getattr(values, "shape", None), len(scored.labels)
        require(
            shape == (count,),
            f"{scored}: `per_example` gives {f'an array of shape {shape}' if shape else type(values).__name__} for "
            f"{count} examples",
            hint="One value an example: np.array([…], np.float64).",
        )
        whole, mean = metric.score(list(scored.labels), list(scored.predictions)), float(values.mean())
        require(
            whole is not None and _near(mean, float(whole)),
            f"{scored} is {whole}, and the mean of `per_example` {mean}",
            hint="A report would show an interval around another number. Leave `per_example` out where there are no "
            "values whose mean the metric is.",
        )

    def test_one_example_and_one_class_are_enough(self, scored: Scored) -> None:
        """A number or None, and never NaN: a small validation split has such examples."""
        metric, labels, predictions = self.build(scored.section), list(scored.labels), list(scored.predictions)
        right = predictions if not scored.comparable else labels
        for what, of_labels, of_predictions in (
            ("one example", labels[:1], predictions[:1]),
            ("examples of one class", labels[:1] * 9, right[:1] * 9),
            ("examples that are all given one answer", labels, predictions[:1] * len(labels)),
        ):
            self._score(metric, of_labels, of_predictions, what)

    def test_its_tasks_are_there(self, section: Section) -> None:
        """``tasks`` names those whose recipes may ask for it."""
        metric = self.build(section)
        unknown = [name for name in metric.tasks if name not in TASKS]
        require(
            not unknown, f"{section['type']}: there is no task {', '.join(unknown)}", hint="See `peftlab ls tasks`."
        )
        used = metric.tasks or [name for name, task in TASKS.items() if section["type"] in task.metrics]
        require(
            used,
            f"no recipe can ask for {section['type']}: it names no tasks, and no task names it",
            hint='Write tasks = ("text_classification",) into its class, or its name into the `metrics` of your task.',
        )

    def _score(
        self, metric: Metric, labels: Sequence[Any], predictions: Sequence[Any], what: str = "examples"
    ) -> float | None:
        """The score, which is a number within the range, or None."""
        __tracebackhide__ = True
        name = metric.registered_name
        try:
            value = metric.score(labels, predictions)
        except Exception as error:
            raise BrokenContractError(
                f"{name} cannot take {what}: {type(error).__name__}: {error}",
                hint="It gives None where it is not defined. If it is for other labels than these, give the class of "
                "the tests `labels` and `predictions`.",
            ) from error
        if value is None:
            return None
        require(
            isinstance(value, numbers.Real) and math.isfinite(value),
            f"{name} is {value!r} of {what}",
            hint="It is a finite number, or None where it is not defined.",
        )
        least, most = metric.range
        require(
            least - 1e-9 <= value <= most + 1e-9,
            f"{name} is {value} of {what}, and its range is {least} to {most}",
            hint="Reports cut intervals where the range ends.",
        )
        return float(value)


def _near(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is other
    return math.isclose(one, other, rel_tol=1e-6, abs_tol=1e-9)

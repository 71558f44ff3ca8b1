"""A model that answers everything alike has collapsed, for every kind of task; equal answers that may be right are none."""

from __future__ import annotations

from typing import Any

import pytest

from peftlab.core.record import Guard
from peftlab.core.task import TASKS, Prediction
from peftlab.tasks.causal_lm import CausalLm
from peftlab.tasks.instruction_tuning import InstructionTuning
from peftlab.tasks.text_classification import TextClassification
from peftlab.tasks.text_regression import TextRegression
from peftlab.tasks.token_classification import TokenClassification
from peftlab.training.answers import AnswerWatch

CLASSES, MULTI = TextClassification(), TextClassification(multi_label=True)
TAGS, NUMBERS, WORDS = TokenClassification(), TextRegression(label="score"), InstructionTuning()


class Nowhere:
    def write(self, split: str, index: Any, predictions: Any) -> None:
        """Keep nothing."""


def judge(task: Any, labels: list[Any], answers: list[Any], steps: int = 100, split: str = "test") -> Guard:
    watch = AnswerWatch(task, Nowhere())
    pairs = list(zip(labels, answers, strict=True))
    for start in range(0, len(pairs), 7):
        part = pairs[start : start + 7]
        watch.write(split, range(len(part)), [Prediction(label, answer, []) for label, answer in part])
    return watch.result(steps=steps)


COLLAPSED: dict[str, tuple[Any, list[Any], list[Any]]] = {
    "one class of two": (CLASSES, ["good", "bad"] * 20, ["good"] * 40),
    "one class of three": (CLASSES, ["a", "b", "c"] * 10, ["c"] * 30),
    "the majority at 95 %": (CLASSES, ["a"] * 190 + ["b"] * 10, ["a"] * 200),
    "the minority": (CLASSES, ["a"] * 190 + ["b"] * 10, ["b"] * 200),
    "always no label": (MULTI, [[], ["x"], ["x", "y"]] * 10, [[]] * 30),
    "always the same labels": (MULTI, [["y"], ["x"], ["x", "y"]] * 10, [["x", "y"]] * 30),
    "only O": (TAGS, [["O", "B-PER", "O"]] * 12, [["O", "O", "O"]] * 12),
    "only O, of other lengths": (TAGS, [["O"] * n + ["B-X"] for n in range(12)], [["O"] * (n + 1) for n in range(12)]),
    "one number": (NUMBERS, [float(n) for n in range(30)], [3.5] * 30),
    "nearly one number": (NUMBERS, [float(n) for n in range(30)], [3.5 + n * 1e-4 for n in range(30)]),
    "one number far from zero": (NUMBERS, [1e6 + n for n in range(30)], [1e6] * 30),
    "the same text": (WORDS, [[f"answer {n}"] for n in range(55)], ["I do not know"] * 55),
    "no text": (WORDS, [[f"answer {n}"] for n in range(55)], [""] * 55),
}
FINE: dict[str, tuple[Any, list[Any], list[Any]]] = {
    "one other answer is enough": (CLASSES, ["a", "b"] * 20, ["a"] * 39 + ["b"]),
    "labels that are alike": (CLASSES, ["a"] * 40, ["a"] * 40),
    "another set of labels": (MULTI, [[], ["x"]] * 20, [[]] * 39 + [["x"]]),
    "one entity": (TAGS, [["O", "B-PER"]] * 12, [["O", "O"]] * 11 + [["O", "B-PER"]]),
    "numbers that hardly follow": (NUMBERS, [float(n) for n in range(30)], [15 + n * 0.05 for n in range(30)]),
    "targets that are alike": (NUMBERS, [2.0] * 30, [2.0] * 30),
    "two texts": (WORDS, [[f"answer {n}"] for n in range(15)], ["yes"] * 14 + ["no"]),
}
CANNOT_TELL: dict[str, tuple[Any, list[Any], list[Any]]] = {
    "nine others of a thousand": (CLASSES, ["a"] * 991 + ["b"] * 9, ["a"] * 1000),
    "a tiny split": (CLASSES, ["a", "b"] * 3, ["a"] * 6),
    "few numbers": (NUMBERS, [1.0, 2.0, 3.0], [2.0] * 3),
    "few texts": (WORDS, [["x"], ["y"]], ["z"] * 2),
    "not many texts": (WORDS, [[f"answer {n}"] for n in range(50)], ["z"] * 50),
    "nothing written": (WORDS, [["x"], ["y"]] * 20, [None] * 40),
    "a task without answers": (CausalLm(), [5, 6] * 20, [0.3] * 40),
}


@pytest.mark.parametrize("case", COLLAPSED)
def test_equal_answers_fail(case: str) -> None:
    guard = judge(*COLLAPSED[case])
    assert guard.status == "failed", guard.detail
    assert "test: all" in guard.detail
    assert judge(*COLLAPSED[case], steps=49).status == "not_applicable"


@pytest.mark.parametrize(("labels", "said"), [(9, "1 label is another"), (1, "9 labels are others")])
def test_the_labels_that_are_missed_are_counted(labels: int, said: str) -> None:
    """Not those beside the most frequent one: the answer given may be the rare one."""
    assert judge(CLASSES, ["a"] * (10 - labels) + ["b"] * labels, ["b"] * 10).detail.endswith(f"where {said})")


@pytest.mark.parametrize("case", FINE)
def test_answers_that_differ_pass(case: str) -> None:
    assert judge(*FINE[case]).status == "passed"


@pytest.mark.parametrize("case", CANNOT_TELL)
def test_what_cannot_be_told_is_said(case: str) -> None:
    guard = judge(*CANNOT_TELL[case])
    assert guard.status == "not_applicable", guard.detail


def test_one_split_is_enough() -> None:
    watch = AnswerWatch(CLASSES, Nowhere())
    for split, answers in (("validation", ["a", "b"] * 20), ("test", ["a"] * 40)):
        predictions = [Prediction(label, answer, []) for label, answer in zip(["a", "b"] * 20, answers, strict=True)]
        watch.write(split, range(40), predictions)
    guard = watch.result(steps=100)
    assert guard.status == "failed"
    assert "validation" not in guard.detail


@pytest.mark.parametrize("name", TASKS.names())
def test_every_task_says_what_it_decides(name: str) -> None:
    """Whatever it stores as label and prediction, and a plugin's too."""
    assert callable(TASKS.get(name).decisions)

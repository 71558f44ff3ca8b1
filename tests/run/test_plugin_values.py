"""What plugins give is looked at where it arrives; whatever it is, a run leaves a record that says what is wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import nn

import peftlab
from peftlab import METHODS, METRICS, TASKS, Method, Metric, read_record
from peftlab.core.errors import PluginError
from peftlab.core.given_values import check_plain
from peftlab.core.metric_scorer import MetricScorer
from peftlab.core.record import Guard
from peftlab.core.task import Prediction
from peftlab.measurement.phases import PhaseClock
from peftlab.run.findings import Findings
from peftlab.tasks.text_classification import TextClassification
from peftlab.training.hooks import HookList

pytestmark = pytest.mark.slow

ROWS = [{"text": f"a {word} day {at}", "label": word} for word in ("good", "bad") for at in range(20)]


class Odd(Method):
    """Gives other things than a method should."""

    def apply(self, model: Any, context: Any) -> Any:
        return METHODS["bitfit"]().apply(model, context)


class OddGuard(Odd):
    """Its guard is none."""

    guard_names: ClassVar[Mapping[str, str]] = {"is_odd": "whether it is"}

    def guards(self, model: Any, context: Any) -> Any:
        return {"is_odd": True}


class Leaves(Odd):
    """Ends the program."""

    def after_step(self, model: Any, step: int) -> None:
        raise SystemExit(3)


class Forgets(Odd):
    """Returns no model."""

    def apply(self, model: Any, context: Any) -> Any:
        super().apply(model, context)


class OddHooks(Odd):
    """Its hooks return what they should not."""

    def around_backward(self, backward: Any, model: Any, batch: Any) -> Any:
        backward()

    def state(self, model: Any) -> Any:
        return {"steps": 3}


class Short(TextClassification):
    """Forgets a prediction."""

    def predict(self, logits: Any, batch: Any, labels: Any) -> Any:
        return super().predict(logits, batch, labels)[:-1]


class Learns(TextClassification):
    """Learns a number of numpy's."""

    def learn(self, train: Any) -> Any:
        return {"rows": np.int64(len(train))}


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    for registry, classes in (
        (METHODS, (OddGuard, Leaves, Forgets, OddHooks)),
        (TASKS, (Short, Learns)),
        (METRICS, ()),
    ):
        registry.names()
        monkeypatch.setattr(registry, "_classes", dict(registry._classes))
        for cls in classes:
            registry.register(cls.__name__.lower())(cls)


def recipe_of(base: Path, *, method: str = "bitfit", task: str = "text_classification") -> peftlab.Recipe:
    return peftlab.Recipe(
        model={"path": str(base)},
        task={"type": task, "max_length": 16},
        data={"source": ROWS, "validation_fraction": 0.2},
        method={"type": method},
        training={"max_steps": 2, "batch_size": 8},
        measure=False,
        waive_guards=["answers_vary"],
    )


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        ({"method": "oddguard"}, "the guard `is_odd` has given True, and not a Guard\n  Guard.check"),
        ({"method": "leaves"}, "SystemExit: 3 (the traceback is in traceback.txt)"),
        ({"method": "forgets"}, "apply of forgets has given None, and not a Module\n  Return the model to train."),
        ({"task": "short"}, "predictions for 6 examples\n  Give one an example."),
    ],
)
def test_whatever_a_plugin_gives_there_is_a_record(
    parts: dict[str, str], told: str, tiny_bert: Path, tmp_path: Path
) -> None:
    result = peftlab.run_recipe(recipe_of(tiny_bert, **parts), output_dir=tmp_path / "run")
    record = read_record(tmp_path / "run")
    assert result.record == record
    assert record.status == "failed"
    assert told in (record.error or "")


def test_what_a_task_learns_is_plain(tiny_bert: Path, tmp_path: Path) -> None:
    with pytest.raises(PluginError, match="the record cannot hold what learns has learned") as told:
        peftlab.run_recipe(recipe_of(tiny_bert, task="learns"), output_dir=tmp_path / "run")
    assert ".item()" in str(told.value)
    check_plain({"rows": [1, 2.5, "x", None, {"y": True}]}, what="this")


def test_hooks_give_tensors() -> None:
    hooks, model = HookList([OddHooks()]), nn.Linear(2, 2)
    with pytest.raises(PluginError, match="state of oddhooks, steps, has given 3, and not a Tensor"):
        hooks.state(model)
    backward: Any = type("Passes", (), {"task": None, "loss": None, "weight": 1.0, "run": lambda *_: torch.ones(())})()
    with pytest.raises(PluginError, match="around_backward of oddhooks has given None"):
        hooks.around(backward, model, {})


@pytest.mark.parametrize(("given", "score"), [(np.float32(0.5), 0.5), (np.int64(1), 1.0), (True, 1.0), (None, None)])
def test_numbers_of_any_library_are_scores(given: Any, score: float | None) -> None:
    assert scored(lambda: given).get("odd_metric") == score


def test_what_is_no_number_is_no_score() -> None:
    with pytest.raises(PluginError, match="the metric `odd_metric` has given 'good', and not a number"):
        scored(lambda: "good")


def scored(give: Callable[[], Any]) -> dict[str, float]:
    class OddMetric(Metric):
        """Gives what it is told to."""

        higher_is_better = True

        @classmethod
        def score(cls, labels: Any, predictions: Any) -> Any:
            return give()

    METRICS.register("odd_metric")(OddMetric)
    scorer = MetricScorer(["odd_metric"])
    scorer.add([Prediction("a", "b", [0.5])])
    scores = scorer.compute()
    assert all(type(value) is float for value in scores.values())
    return scores


def test_findings_drop_what_no_record_can_hold() -> None:
    findings = Findings(PhaseClock(torch.device("cpu")))
    guard: Any = False
    findings.guards = {"good": Guard.check(True, "it is"), "odd": guard}
    findings.notes = {"training": {"told": np.float32(1)}, "train": {"cut": 3}}
    findings.learned = {"threshold": 0.5, "array": np.zeros(2)}
    wrong = findings.drop_unwritable()
    assert isinstance(wrong, PluginError)
    assert "the guard `odd`" in str(wrong)
    assert (list(findings.guards), findings.notes, findings.learned) == (
        ["good"],
        {"train": {"cut": 3}},
        {"threshold": 0.5},
    )
    assert findings.drop_unwritable() is None

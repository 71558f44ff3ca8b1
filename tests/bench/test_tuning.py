"""Equal budgets: which settings are tried, on how much, and which one is taken."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peftlab.bench.cells import LEARNING_RATE, Cell, expand_cells
from peftlab.bench.studies import JOURNAL_NAME, open_study
from peftlab.bench.suite import Tuning, load_suite
from peftlab.bench.tuning import plan_rungs, propose_settings, tune
from peftlab.core.method import METHODS
from peftlab.core.record import RunRecord
from peftlab.recipe.schema import Recipe
from tests.bench.test_suites import RECIPE, SUITE

TUNING = Tuning(trials=6, learning_rate=[1e-5, 1e-1])


@pytest.fixture
def cell(tmp_path: Path) -> Cell:
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    (tmp_path / "suite.yaml").write_text(SUITE)
    return expand_cells(*load_suite(tmp_path / "suite.yaml"))[3]


@given(trials=st.integers(2, 64), examples=st.integers(1, 100_000))
def test_rungs_halve_the_trials_and_never_repeat_a_size(trials: int, examples: int) -> None:
    rungs = plan_rungs(trials, examples)
    counts, sizes = [count for count, _ in rungs], [size for _, size in rungs]
    assert counts[0] == trials
    assert all(later <= -(-earlier // 2) for earlier, later in itertools.pairwise(counts))
    assert sizes == sorted(set(sizes))
    assert all(1 <= size <= examples for size in sizes)


def test_rungs_of_the_shipped_suite() -> None:
    assert plan_rungs(4, 2500) == [(4, 625), (2, 1250)]
    assert plan_rungs(1, 2500) == []
    assert plan_rungs(4, 100) == [(4, 100)], "with so few examples there is nothing to save"


@settings(deadline=None)
@given(seed=st.integers(0, 1000), trials=st.integers(1, 12))
def test_every_method_gets_as_many_settings_within_the_range(seed: int, trials: int) -> None:
    # One cell serves all examples: nothing is written.
    cell = Cell("small", "small", (), _document("lora"))
    tuning = Tuning(trials=trials, learning_rate=[1e-5, 1e-1])
    proposed = propose_settings(cell, tuning, seed=seed)
    assert len(proposed) == trials
    assert all(1e-5 <= setting[LEARNING_RATE] <= 1e-1 for setting in proposed)
    assert proposed[0][LEARNING_RATE] == METHODS.get("lora").default_learning_rate
    assert proposed == propose_settings(cell, tuning, seed=seed)


@pytest.mark.parametrize("method", METHODS.names())
def test_the_first_setting_is_the_methods_own(method: str) -> None:
    cls = METHODS.get(method)
    (first, *_) = propose_settings(
        Cell(method, method, (), _document(method)), Tuning(trials=4, learning_rate=[1e-6, 1.0]), seed=3
    )
    assert first == {LEARNING_RATE: cls.default_learning_rate} | {
        key: choices[0] for key, choices in cls.search_space.items()
    }
    for key, choices in cls.search_space.items():
        section, _, name = key.partition(".")
        assert section == "method"
        assert cls.model_fields[name].default == choices[0]


def _document(method: str):  # type: ignore[no-untyped-def]
    from peftlab.core.config import Document

    return Document(source="test", values={"method": {"type": method}})


class Trials:
    """Runs trials in no time: the score is given by the learning rate and the examples."""

    def __init__(self, best: float, failing: frozenset[int] = frozenset()) -> None:
        self.best, self.failing, self.ran = best, failing, []

    def __call__(self, recipe: Recipe, name: str) -> RunRecord:
        import math

        assert not recipe.evaluation.test
        assert recipe.seed == 9
        number = len(self.ran)
        self.ran.append((recipe.training.learning_rate, recipe.data.max_train_examples))
        distance = abs(math.log(recipe.training.learning_rate / self.best))
        failed = number in self.failing
        return RunRecord(
            name=name,
            status="diverged" if failed else "success",
            error="the loss is not finite" if failed else None,
            recipe=recipe.model_dump(mode="json"),
            scores={} if failed else {"validation": {"accuracy": 1 - distance / 100}},
            started_at="2026-01-01T00:00:00+00:00",
            seconds=1.0,
        )


def _tune(cell: Cell, folder: Path, trials: Trials):  # type: ignore[no-untyped-def]
    return tune(cell, TUNING, seed=9, train_examples=4000, higher_is_better=True, folder=folder, run=trials)


def test_the_setting_nearest_to_the_best_wins(cell: Cell, tmp_path: Path) -> None:
    settings = propose_settings(cell, TUNING, seed=9)
    for wanted in settings:
        trials = Trials(wanted[LEARNING_RATE])
        assert _tune(cell, tmp_path / "tuning", trials).settings == wanted
        assert [examples for _, examples in trials.ran] == [500] * 6 + [1000] * 3 + [2000] * 2
    summary = json.loads((tmp_path / "tuning" / f"{cell.name}.json").read_text())
    assert summary["chosen"] == settings[-1]
    assert [len(rung["trials"]) for rung in summary["rungs"]] == [6, 3, 2]


def test_optunas_storage_holds_every_trial_once(cell: Cell, tmp_path: Path) -> None:
    for _ in range(2):
        _tune(cell, tmp_path, Trials(1e-3, failing=frozenset({1})))
    study = open_study(tmp_path / JOURNAL_NAME, cell.name, maximize=True)
    states = [trial.state.name for trial in study.trials]
    assert states.count("COMPLETE") == 2
    assert states.count("FAIL") == 1
    assert states.count("PRUNED") == 3


def test_a_cell_whose_every_trial_fails_has_no_setting(cell: Cell, tmp_path: Path) -> None:
    choice = _tune(cell, tmp_path, Trials(1e-3, failing=frozenset(range(100))))
    assert choice.settings is None
    assert choice.error == "the loss is not finite"


def test_lower_is_better_where_it_is(cell: Cell, tmp_path: Path) -> None:
    settings = propose_settings(cell, TUNING, seed=9)
    choice = tune(
        cell,
        TUNING,
        seed=9,
        train_examples=4000,
        higher_is_better=False,
        folder=tmp_path,
        run=Trials(settings[0][LEARNING_RATE]),
    )
    assert choice.settings != settings[0]

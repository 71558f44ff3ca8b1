"""`peftlab tune`: what is tried, what ends early, what is taken up again, and what comes out."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from peftlab.bench.cells import LEARNING_RATE, Cell
from peftlab.bench.executor import Finished
from peftlab.bench.recipe_search import DATA, Budget, RecipeSearch, SearchSettings, cell_of_recipe
from peftlab.bench.search_result import SearchResult
from peftlab.bench.search_space import Range, SearchSpace, default_space, load_space
from peftlab.bench.studies import JOURNAL_NAME, Sampler, open_study
from peftlab.cli.tune import as_text
from peftlab.core.destination import SEARCH_NAME
from peftlab.core.errors import ConfigError, RunFailedError, UserError
from peftlab.core.record import RunRecord, read_record, write_record
from peftlab.core.reporter import Silent
from peftlab.recipe.schema import Recipe, load_recipe
from tests.bench.orphans import wait_until_none_runs_in
from tests.conftest import Command
from tests.forks import Fork
from tests.patience import PATIENCE

pytestmark = pytest.mark.slow

RECIPE = """\
name: small
seed: 7
model: {{path: {model}}}
task: {{type: text_classification, max_length: 32}}
data: {{source: {data}, validation_fraction: 0.2}}
method: {{type: lora, rank: 4, alpha: 8}}
training: {{epochs: 3, batch_size: 8, learning_rate: 1e-3}}
"""
SPACE = SearchSpace({LEARNING_RATE: Range(low=1e-5, high=1e-1, log=True), "method.rank": [4, 8]})
BEST_RATE = 3e-3
EPOCHS = 4


class QuickWorker:
    """Runs in no time: the score is given by the learning rate; the curve rises to it over four evaluations.

    Args:
        dies_at: The run at which the process is killed: an exception that nobody handles.
        looks: Whether the run is looked at between two evaluations, or only at its end.
        fails: The status of every run; None: they come through.
        learns: Else every run ends with the score of those who always say the same.
    """

    def __init__(
        self, *, dies_at: int | None = None, looks: bool = True, fails: str | None = None, learns: bool = True
    ) -> None:
        self.dies_at, self.looks, self.fails, self.learns = dies_at, looks, fails, learns
        self.ran: list[tuple[Recipe, int]] = []
        self.stopped = False

    def stop(self) -> None:
        self.stopped = True

    def run(self, recipe: Recipe, folder: Path, *, goes_on: Callable[[], bool] | None = None) -> Finished:
        assert not recipe.evaluation.test
        folder.mkdir(parents=True, exist_ok=True)
        log = folder / "metrics.jsonl"
        log.unlink(missing_ok=True)
        score = 1 - abs(math.log(recipe.training.learning_rate / BEST_RATE)) / 20 + recipe.seed % 7 / 1000
        score = score if self.learns else 0.6
        epochs = 0
        for epoch in range(1, EPOCHS + 1):
            with log.open("a") as file:
                file.write(json.dumps({"step": epoch, "loss": 1.0}) + "\n")
            cancelled = self.looks and goes_on is not None and not goes_on()
            if len(self.ran) == self.dies_at and (cancelled or epoch == 3):
                raise KeyboardInterrupt
            if cancelled:
                break
            with log.open("a") as file:
                file.write(json.dumps({"step": epoch, "validation": {"accuracy": score * epoch / EPOCHS}}) + "\n")
            epochs = epoch
        self.ran.append((recipe, epochs))
        record = RunRecord(
            name=recipe.name,
            status="cancelled" if cancelled else self.fails or "success",
            error="out of luck" if self.fails else None,
            recipe=recipe.model_dump(mode="json"),
            scores={} if cancelled or self.fails else {"validation": {"accuracy": score}},
            started_at="2026-01-01T00:00:00+00:00",
            seconds=60.0,
        )
        write_record(record, folder)
        return Finished(record, 60.0)


@pytest.fixture(scope="module")
def cell(tiny_bert: Path, reviews: Path, tmp_path_factory: pytest.TempPathFactory) -> Cell:
    path = tmp_path_factory.mktemp("recipes") / "small.yaml"
    path.write_text(RECIPE.format(model=tiny_bert, data=reviews))
    return cell_of_recipe(*load_recipe(path), offline=True, reporter=Silent())[0]


def search(
    cell: Cell, folder: Path, worker: QuickWorker, budget: Budget, *, data: str = "rows", **settings: Any
) -> SearchResult:
    chosen = SearchSettings(**{"space": SPACE, **settings})
    return RecipeSearch(cell, data, chosen, folder, worker, reporter=Silent()).execute(budget)


def tried(folder: Path, *, maximize: bool = True) -> list[tuple[dict[str, Any], str, dict[int, float]]]:
    study = open_study(folder / JOURNAL_NAME, "small", maximize=maximize)
    return [(trial.params, trial.state.name, trial.intermediate_values) for trial in study.trials]


BUDGET = Budget(trials=16, minutes=None, seeds=2)


@pytest.fixture(scope="module")
def whole(cell: Cell, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SearchResult, QuickWorker]:
    folder, worker = tmp_path_factory.mktemp("searches") / "whole", QuickWorker()
    return folder, search(cell, folder, worker, BUDGET), worker


def test_the_recipes_own_settings_are_the_first_trial(whole: tuple[Path, SearchResult, QuickWorker]) -> None:
    folder, result, worker = whole
    assert tried(folder)[0][0] == {LEARNING_RATE: 1e-3, "method.rank": 4}
    assert result.own_score == read_record(folder / "trials" / "trial0").scores["validation"]["accuracy"]
    assert result.best_score >= result.own_score
    assert sum(result.trials.values()) == 16
    assert all(recipe.seed == 7 for recipe, _ in worker.ran[:16])


def test_the_winner_runs_with_fresh_seeds_and_becomes_a_recipe(
    cell: Cell, whole: tuple[Path, SearchResult, QuickWorker]
) -> None:
    _, result, worker = whole
    assert list(result.fresh_scores) == [8, 9]
    assert result.fresh_mean == pytest.approx(sum(result.fresh_scores.values()) / 2)
    fresh = [recipe for recipe, _ in worker.ran[16:]]
    assert [recipe.seed for recipe in fresh] == [8, 9]
    assert {recipe.data.split_seed for recipe, _ in worker.ran} == {7}, "all are judged on the same rows"
    best, _ = load_recipe(result.recipe)
    assert best.training.learning_rate == result.settings[LEARNING_RATE]
    assert best.method.rank == result.settings["method.rank"]
    own = cell.recipe({}, seed=7)
    assert (best.seed, best.evaluation, best.measure, best.data) == (7, own.evaluation, own.measure, own.data)
    head = result.recipe.read_text().splitlines()[:2]
    assert f"{result.best_score:.4f}" in head[1]
    assert f"{result.fresh_mean:.4f}" in head[1]


def test_a_trial_below_the_median_ends_early(whole: tuple[Path, SearchResult, QuickWorker]) -> None:
    folder, result, worker = whole
    assert result.trials["pruned"] > 0
    for number, (_, state, curve) in enumerate(tried(folder)):
        epochs = worker.ran[number][1]
        assert len(curve) == epochs
        assert (epochs < EPOCHS) == (state == "PRUNED")


def test_when_a_run_is_looked_at_changes_nothing(
    cell: Cell, whole: tuple[Path, SearchResult, QuickWorker], tmp_path: Path
) -> None:
    late = search(cell, tmp_path, QuickWorker(looks=False), BUDGET)
    assert tried(tmp_path) == tried(whole[0])
    assert (late.settings, late.fresh_scores) == (whole[1].settings, whole[1].fresh_scores)


@pytest.mark.parametrize("dies_at", [0, 5, 11, 17])
def test_a_killed_search_goes_on_to_the_same_result(
    cell: Cell, whole: tuple[Path, SearchResult, QuickWorker], tmp_path: Path, dies_at: int
) -> None:
    with pytest.raises(KeyboardInterrupt):
        search(cell, tmp_path, QuickWorker(dies_at=dies_at), BUDGET)
    with (tmp_path / JOURNAL_NAME).open("a") as journal:  # the process was killed while it wrote this line
        journal.write('{"op_code":8,"worker_')
    Path(f"{tmp_path / JOURNAL_NAME}.lock").touch()
    worker = QuickWorker()
    result = search(cell, tmp_path, worker, BUDGET)
    assert tried(tmp_path) == tried(whole[0])
    assert (result.settings, result.fresh_scores) == (whole[1].settings, whole[1].fresh_scores)
    assert len(worker.ran) == 18 - dies_at, "what was done is not done again"


def test_a_search_can_be_made_longer(cell: Cell, whole: tuple[Path, SearchResult, QuickWorker], tmp_path: Path) -> None:
    search(cell, tmp_path, QuickWorker(), Budget(trials=6, minutes=None, seeds=1))
    search(cell, tmp_path, QuickWorker(), BUDGET)
    assert tried(tmp_path) == tried(whole[0])


def test_minutes_are_those_of_the_trials(cell: Cell, tmp_path: Path) -> None:
    result = search(cell, tmp_path, QuickWorker(), Budget(trials=None, minutes=3, seeds=1), pruner="none")
    assert result.trials == {"complete": 3, "pruned": 0, "failed": 0}
    again = search(cell, tmp_path, QuickWorker(), Budget(trials=None, minutes=5, seeds=1), pruner="none")
    assert again.trials["complete"] == 5


def test_tpe_comes_nearer_than_chance(cell: Cell, tmp_path: Path) -> None:
    """On average over five seeds of the search, at equal trials."""

    def distance(sampler: Sampler, seed: int) -> float:
        document = cell.document
        own = Cell("small", "lora", (), type(document)(source="x", values={**document.values, "seed": seed}))
        folder = tmp_path / f"{sampler}{seed}"
        result = search(own, folder, QuickWorker(), Budget(25, None, 1), sampler=sampler, pruner="none")
        return abs(math.log(result.settings[LEARNING_RATE] / BEST_RATE))

    tpe, chance = (sum(distance(sampler, seed) for seed in range(5)) for sampler in ("tpe", "random"))
    assert tpe < chance


def test_another_search_is_not_mixed_in(cell: Cell, tmp_path: Path) -> None:
    budget = Budget(trials=1, minutes=None, seeds=1)
    search(cell, tmp_path, QuickWorker(), budget)
    with pytest.raises(UserError, match="another space"):
        search(cell, tmp_path, QuickWorker(), budget, space=SearchSpace({"method.rank": [2, 4]}))
    with pytest.raises(UserError, match="another sampler"):
        search(cell, tmp_path, QuickWorker(), budget, sampler="random")
    with pytest.raises(UserError, match="the data have changed since the search was begun"):
        search(cell, tmp_path, QuickWorker(), budget, data="other rows")
    kept = tmp_path / SEARCH_NAME
    kept.write_text(json.dumps({key: value for key, value in json.loads(kept.read_text()).items() if key != DATA}))
    search(cell, tmp_path, QuickWorker(), budget, data="other rows")  # of a version that did not note them


@pytest.mark.parametrize(
    "space",
    [{LEARNING_RATE: Range(low=1e-5, high=1e-1, log=True), "method.rank": [8, 16]}, {"method.rank": [8, 16]}],
)
def test_a_recipe_beyond_the_space_has_no_score_of_its_own(cell: Cell, tmp_path: Path, space: dict[str, Any]) -> None:
    budget = Budget(trials=4, minutes=None, seeds=1)
    result = search(cell, tmp_path, QuickWorker(), budget, space=SearchSpace(space))
    assert result.own_score is None
    assert "the recipe as it was" not in as_text(result)


@pytest.mark.parametrize("status", ["failed", "diverged"])
def test_a_search_in_which_nothing_comes_through(cell: Cell, status: str, tmp_path: Path) -> None:
    with pytest.raises(RunFailedError, match="no trial succeeded; the first: out of luck"):
        search(cell, tmp_path, QuickWorker(fails=status), Budget(trials=2, minutes=None, seeds=1))


def test_a_search_that_chose_nothing_says_so(cell: Cell, tmp_path: Path) -> None:
    result = search(cell, tmp_path / "equal", QuickWorker(learns=False), Budget(trials=3, minutes=None, seeds=1))
    assert (result.tied, result.settings) == (3, {LEARNING_RATE: 1e-3, "method.rank": 4}), "the recipe stays as it was"
    assert "all 3 trials have this score, so nothing was chosen" in as_text(result)
    assert "nothing was chosen" in result.recipe.read_text()
    assert "trials have this score" not in as_text(replace(result, tied=1))
    assert "2 trials have this score; the first of them was taken" in as_text(replace(result, tied=2))


def test_the_space_without_a_file(cell: Cell) -> None:
    space = default_space(cell.recipe({"method.type": "p_tuning"}, seed=0))
    rates = space.parameters[LEARNING_RATE]
    assert isinstance(rates, Range)
    assert (rates.low, rates.high) == pytest.approx((1e-4, 1e-2))
    assert space.parameters["method.encoder"] == ["mlp", "lstm"]


def test_a_space_from_a_file(cell: Cell, tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_text(
        "training.learning_rate: {low: 1e-5, high: 1e-2, log: true}\ntraining.epochs: {low: 1, high: 4}\n"
        "method.target_modules: [all-linear, [query, value]]\n"
    )
    space = load_space(path, cell)
    settings = space.settings(
        {LEARNING_RATE: 0.00123456, "training.epochs": 2, "method.target_modules": '["query", "value"]'}
    )
    assert settings == {
        LEARNING_RATE: 0.001235,
        "training.epochs": 2,
        "method.target_modules": ["query", "value"],
    }
    assert cell.recipe(settings, seed=0).method.target_modules == ["query", "value"]


def test_a_few_choices_are_tried_once_each_and_tasks_are_among_them(cell: Cell, tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_text(
        "task:\n- {type: text_classification, max_length: 32}\n"
        "- {type: text_classification, max_length: 32, pooling: mean}\nmethod.rank: [2, 4]\n"
    )
    space = load_space(path, cell)
    worker = QuickWorker(looks=False)
    found = search(cell, tmp_path / "few", worker, Budget(trials=9, minutes=None, seeds=1), space=space)
    assert sum(found.trials.values()) == 4
    ran = [(recipe.task.pooling, recipe.method.rank) for recipe, _ in worker.ran[:4]]
    assert sorted(ran) == [("head", 2), ("head", 4), ("mean", 2), ("mean", 4)]
    assert load_recipe(found.recipe)[0].task.pooling in ("head", "mean")
    path.write_text("task:\n- {type: text_classification}\n- {type: text_classification, text: other}\n")
    with pytest.raises(ConfigError, match="has other text columns than the recipe's task"):
        load_space(path, cell)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("method.rnak: [4, 8]", "space.yaml:1: method.rnak.*\n.*rank"),
        ("method.rank: [4, many]", "space.yaml:1: method.rank"),
        ("method.rank: [4]", "two different choices"),
        ("method.rank: {low: 4, high: 2}", "the smaller end comes first"),
        ("method.rank: {low: 4, hgih: 8}", "hgih"),
        ("method: {rank: [4, 8]}", "neither choices nor a range"),
        ("seed: [0, 1]", "could not be compared"),
        ("data.max_train_examples: [10, 20]", "could not be compared"),
        ("training.learning_rate: {low: 0.0, high: 0.1, log: true}", "begins above 0"),
        ("{}", "nothing to try"),
    ],
)
def test_a_wrong_space_is_refused(cell: Cell, tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "space.yaml").write_text(line + "\n")
    with pytest.raises(ConfigError, match=message):
        load_space(tmp_path / "space.yaml", cell)


def test_what_the_command_refuses(command: Command, cell: Cell, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(Path(cell.document.source).read_text())
    done = command("tune", recipe, "--set", "data.validation_fraction=0", "--offline")
    assert done.returncode == 2
    assert "there is none" in done.stderr
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    done = command("tune", recipe, "--output-dir", "mine", "--json")
    assert done.returncode == 2
    assert "no search" in json.loads(done.stdout)["error"]["message"]


@pytest.mark.slow
def test_the_real_command_survives_a_kill(
    cell: Cell, tmp_path: Path, command: Command, forked_runs: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The runs of the one that is killed are fresh processes, which end with it; then they are forks."""
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(Path(cell.document.source).read_text() + "measure: false\n")
    # The processes find no bitsandbytes, which no run here needs: its import takes longer than such a run.
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text("import sys\nsys.modules['bitsandbytes'] = None\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"), prepend=os.pathsep)
    arguments = ["tune", str(recipe), "--trials", "2", "--seeds", "1", "--output-dir", str(tmp_path / "out")]
    log = tmp_path / "killed.log"
    with log.open("wb") as file:
        killed = Fork(arguments, folder=tmp_path, stdout=file, stderr=file)
    deadline = time.monotonic() + PATIENCE
    while not (tmp_path / "out" / "trials" / "trial1" / "metrics.jsonl").exists():
        assert killed.poll() is None, log.read_text()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    killed.kill()
    killed.wait(PATIENCE)
    wait_until_none_runs_in(tmp_path / "out")
    first = read_record(tmp_path / "out" / "trials" / "trial0")
    done = command(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["trials"] == {"complete": 2, "pruned": 0, "failed": 0}
    assert read_record(tmp_path / "out" / "trials" / "trial0").started_at == first.started_at
    assert list(result["fresh_scores"]) == ["8"]
    assert "test" not in first.scores
    assert not list((tmp_path / "out").rglob("*.safetensors"))
    assert load_recipe(result["recipe"])[0].evaluation.test

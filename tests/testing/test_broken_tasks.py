"""Mistakes that authors of tasks make: the contract names each. The task and the class of its tests are those of the docs."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from peftlab.core.metric import METRICS
from peftlab.core.task import TASKS
from peftlab.testing import BrokenContractError, TaskContract
from tests.docs.test_python_page import blocks_of, run_block

pytestmark = pytest.mark.slow

SOURCE = Path(__file__).parents[1].joinpath("tasks", "paraphrases.py").read_text()
MISTAKES = {
    # (what is written, what is written instead): what is told
    ("divisible = False", "divisible = True"): "the loss of a batch is ",
    ("return 2 * self.max_length", "return 4"): "`longest()` is 4",
    ("return len(batch[", "return 1 + len(batch["): "`loss_terms`",
}


@pytest.fixture
def tests(monkeypatch: pytest.MonkeyPatch) -> TaskContract:
    for registry in (TASKS, METRICS):
        registry.names()
        monkeypatch.setattr(registry, "_classes", dict(registry._classes))
    ((line, block),) = [found for found in blocks_of("extending.md") if "TaskContract):" in found[1]]
    names: dict[str, Any] = {}
    run_block("extending.md", line, block, names)
    return names["TestParaphrases"]()


def define(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("paraphrases_of_another")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(source, module.__dict__)  # noqa: S102


def try_all(tests: TaskContract, folder: Path, factory: pytest.TempPathFactory) -> None:
    (case,) = tests.cases()
    tests.test_it_is_described(case.section)
    tests.test_its_keys_are_written_and_read_back(case.section)
    tests.test_the_loss_falls_and_every_guard_holds(case, factory)
    tests.test_the_loss_of_a_batch_is_that_of_its_parts(case, factory)
    tests.test_the_bias_of_a_head_trains_where_it_matters(case, factory)
    tests.test_the_estimate_agrees_with_the_measurement(case, factory)
    tests.test_the_reloaded_run_predicts_the_same(case, folder, factory)


def test_the_task_of_the_docs_passes(
    tests: TaskContract, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    define(SOURCE, monkeypatch)
    try_all(tests, tmp_path, tmp_path_factory)


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda pair: pair[1])
def test_each_mistake_is_named(
    mistake: tuple[str, str],
    tests: TaskContract,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert mistake[0] in SOURCE
    define(SOURCE.replace(*mistake), monkeypatch)
    with pytest.raises(BrokenContractError) as caught:
        try_all(tests, tmp_path, tmp_path_factory)
    assert MISTAKES[mistake] in str(caught.value)

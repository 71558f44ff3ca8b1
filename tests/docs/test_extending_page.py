"""The plugins on the pages that tell how to add one work as they are written: typed word for word, and then used."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import peftlab
from peftlab.assembly.app_file import load_application
from peftlab.assembly.app_folder import open_application
from peftlab.assembly.build import build_application
from peftlab.assembly.evaluate import evaluate_application
from peftlab.audit.audit import audit_run
from peftlab.audit.run_audit import choose_parts
from peftlab.core.audit import AUDITS
from peftlab.core.perturbation import PERTURBATIONS
from peftlab.core.reporter import Silent
from peftlab.core.reward import Answer
from peftlab.core.selection import Candidates, choose
from peftlab.inference.files import reading_config
from peftlab.inference.load_tuned import load_tuned
from peftlab.interfaces import APPLICATIONS, AUGMENTATIONS, OPTIMIZERS, REWARDS, SCHEDULES, STRATEGIES
from peftlab.testing import MethodContract, RegularizerContract, TaskContract
from peftlab.testing.regularizer_contract import Use
from tests.docs.test_python_page import blocks_of, run_block
from tests.testing.planted import call_all

pytestmark = pytest.mark.slow

REGISTRIES: tuple[Any, ...] = (
    peftlab.METHODS,
    peftlab.METRICS,
    peftlab.REGULARIZERS,
    APPLICATIONS,
    AUDITS,
    AUGMENTATIONS,
    OPTIMIZERS,
    PERTURBATIONS,
    REWARDS,
    SCHEDULES,
    STRATEGIES,
)


LARGE = (MethodContract, RegularizerContract, TaskContract)


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """All plugins of the pages, each in a module of its own; the names of all modules. They are gone afterwards."""
    for registry in REGISTRIES:
        registry.names()
        monkeypatch.setattr(registry, "_classes", dict(registry._classes))
    names: dict[str, Any] = {}
    for page in ("extending.md", "tutorials/add_a_method.md"):
        for line, block in blocks_of(page):
            if ".register(" in block or "@reward_function" in block:
                module = ModuleType(f"typed_{page.partition('.')[0]}_{line}".replace("/", "_"))
                monkeypatch.setitem(sys.modules, module.__name__, module)
                run_block(page, line, block, module.__dict__)
                names |= vars(module)
    return names


def recipe(method: str, base: Path, rows: Path) -> peftlab.Recipe:
    return peftlab.Recipe.from_dict(
        {
            "name": "typed",
            "model": {"path": str(base)},
            "task": {"type": "text_classification", "max_length": 32},
            "data": {"source": str(rows), "max_train_examples": 60, "augmentation": [{"type": "lower_case"}]},
            "method": {"type": method},
            "training": {
                "max_steps": 6,
                "batch_size": 8,
                "learning_rate": 5e-3,
                "regularizers": [{"type": "l2_penalty"}],
                "schedule": {"type": "halving", "times": 2},
            },
            "evaluation": {"metric": "cost"},
            "measure": False,
        }
    )


@pytest.mark.parametrize("method", ["my_method", "norm_tuning"])
def test_what_the_pages_add_trains(
    method: str, typed: dict[str, Any], tiny_bert: Path, reviews: Path, tmp_path: Path
) -> None:
    assert typed["Halving"](times=2).registered_name == "halving"
    result = peftlab.run_recipe(recipe(method, tiny_bert, reviews), output_dir=tmp_path / "run")
    assert result.record.status == "success", result.record.error
    assert 0 <= result.record.scores["test"]["cost"] <= 2
    if method == "my_method":
        return
    tuned = load_tuned(tmp_path / "run", offline=True)
    parts = choose_parts(
        ["shouting", "robustness"], ["robustness.perturbations=[shout]", "robustness.worst_case_texts=1"]
    )
    report = audit_run(tuned, parts, Silent(), reading=reading_config(tuned.recipe, None, "utf-8"), offline=True)
    told = report.model_dump_json()
    assert "No text is in capitals." in told
    assert "robustness.shout." in told


@pytest.mark.usefixtures("typed")
def test_the_test_of_the_page_passes(tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "minilm").symlink_to(tiny_bert)
    monkeypatch.chdir(tmp_path)
    ((line, block),) = [(line, block) for line, block in blocks_of("extending.md") if "def test_my_method" in block]
    names: dict[str, Any] = {}
    run_block("extending.md", line, block, names)
    names["test_my_method"](tmp_path)


@pytest.mark.usefixtures("typed")
def test_the_contracts_of_the_page_take_its_plugins(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    ((line, block),) = [(line, block) for line, block in blocks_of("extending.md") if "(RegularizerContract)" in block]
    names: dict[str, Any] = {}
    run_block("extending.md", line, block, names)
    names["TestMyMethod"]().test_no_step_waits_for_the_card(names["TestMyMethod"].plugin)
    used = Use(names["TestL2Penalty"].plugin, "text_classification")
    names["TestL2Penalty"]().test_it_has_an_effect_and_a_resumed_run_is_the_same(used, tmp_path, tmp_path_factory)
    small = [cls for name, cls in names.items() if name.startswith("Test") and not issubclass(cls, LARGE)]
    assert len(small) == 8
    for cls in small:
        call_all(cls)


@pytest.mark.usefixtures("typed")
def test_what_the_pages_add_judges_and_chooses(tmp_path: Path) -> None:
    answer = Answer(prompt="p", response="yes, it is", expected="yes", where="row 1")
    assert [
        REWARDS[name](**keys).reward(answer) for name, keys in (("contains", {"word": "yes"}), ("brevity", {}))
    ] == [
        1.0,
        1 / 11,
    ]
    chances = np.array([[0.9, 0.1], [0.5, 0.5], [0.3, 0.7]])
    chosen = choose(STRATEGIES["least_sure"](), Candidates(3, ("a", "b"), chances), 2, seed=0)
    assert [choice.position for choice in chosen] == [1, 2]
    (tmp_path / "app.yaml").write_text("type: word_count\nwords: 4\n")
    build_application(load_application(tmp_path / "app.yaml"), tmp_path / "built")
    application, place = open_application(tmp_path / "built")[:2]
    assert evaluate_application(application, place)["figures"]["system.words"]["value"] == 4


def test_the_readme_shows_the_same_method() -> None:
    assert blocks_of("extending.md")[0][1] in [block for _, block in blocks_of("../README.md")]

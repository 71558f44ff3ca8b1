"""A change that is not meant to move numbers has moved none.

The stored values were measured on another machine: processors differ in the last bits. ``compare.py`` compares two
commits bit for bit.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.golden.small_runs import MINILM, measure, names, write_inputs
from tests.small_methods import PEFT_ADAPTERS

pytestmark = pytest.mark.slow

VALUES = json.loads((Path(__file__).parent / "values.json").read_text())
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("golden")
    write_inputs(folder)
    return folder


@pytest.mark.parametrize("name", [*names(), pytest.param(MINILM, marks=pytest.mark.network)])
def test_losses_and_scores_are_those_that_are_stored(name: str, inputs: Path) -> None:
    found: dict[str, Any] = measure(name, inputs)
    stored = VALUES[name]
    assert len(found["steps"]) == len(stored["steps"]) == 10
    for step, expected in zip(found["steps"], stored["steps"], strict=True):
        assert step == pytest.approx(expected, rel=TOLERANCE)
    assert found["scores"].keys() == stored["scores"].keys()
    for split, scores in stored["scores"].items():
        assert found["scores"][split] == pytest.approx(scores, rel=TOLERANCE, abs=TOLERANCE)


def test_every_method_that_is_more_than_a_config_of_peft_has_a_run() -> None:
    from peftlab import METHODS

    in_full = {name for name, method in METHODS.items() if not method.needs_original}
    assert {name.rpartition("/")[2] for name in names()} >= in_full - set(PEFT_ADAPTERS)
    assert VALUES.keys() == {*names(), MINILM}

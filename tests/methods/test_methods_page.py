"""docs/methods.md says of every tuner of peft whether it is a method here, and what those can do."""

from __future__ import annotations

import re
from pathlib import Path

import peft
from test_contract import NOT_TRANSPOSED

from peftlab.core.method import METHODS
from tests.small_methods import PEFT_ADAPTERS

PAGE = (Path(__file__).parents[2] / "docs" / "methods.md").read_text()
METHODS_PART, TUNERS_PART = PAGE.split("## peft's tuners that are no methods here")


def test_every_method_and_every_tuner_is_there_once() -> None:
    assert set(METHODS) <= set(re.findall(r"`(\w+)`", METHODS_PART))
    rows = "\n".join(line.split("|")[1] for line in TUNERS_PART.splitlines() if line.startswith("| `"))
    left_out = re.findall(r"`(\w+)`", rows)
    assert len(left_out) == len(set(left_out))
    assert set(left_out) == {kind.value.lower() for kind in peft.PeftType} - set(METHODS)


def test_the_table_says_what_the_classes_say() -> None:
    rows = [[cell.strip(" `") for cell in line.split("|")[1:-1]] for line in METHODS_PART.splitlines()]
    found = {row[0]: (row[2], row[3]) for row in rows if row and row[0] in PEFT_ADAPTERS}
    words = {True: "yes", False: "no"}
    assert found == {
        name: (words[name not in NOT_TRANSPOSED], words[METHODS[name].fits_quantized])  # type: ignore[attr-defined]
        for name in PEFT_ADAPTERS
    }

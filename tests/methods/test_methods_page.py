"""docs/methods.md says of every tuner of peft whether it is a method here, and what those can do."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

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


def test_defaults_are_pefts_but_for_those_that_are_told() -> None:
    differing = {}
    for name in PEFT_ADAPTERS:
        method: Any = METHODS[name]()
        theirs = {f.name: f.default for f in dataclasses.fields(getattr(peft, method.config_class))}
        for key, value in {**method._own_fields(), **method.fixed}.items():
            if theirs[key] != value:
                differing[name, key] = (value, theirs[key])
    assert differing == {
        ("c3a", "block_size"): (128, 256),
        ("miss", "r"): (16, 64),
        ("vblora", "vector_length"): (128, 256),
        ("oft", "use_cayley_neumann"): (False, True),
    }
    assert all(f"`{name}`" in METHODS_PART.partition("Their defaults are peft's")[2][:300] for name, _ in differing)


def test_the_table_says_what_the_classes_say() -> None:
    rows = [[cell.strip(" `") for cell in line.split("|")[1:-1]] for line in METHODS_PART.splitlines()]
    found = {row[0]: (row[2], row[3]) for row in rows if row and row[0] in PEFT_ADAPTERS}
    words = {True: "yes", False: "no"}
    assert found == {
        name: (words[name not in NOT_TRANSPOSED], words[METHODS[name].fits_quantized])  # type: ignore[attr-defined]
        for name in PEFT_ADAPTERS
    }

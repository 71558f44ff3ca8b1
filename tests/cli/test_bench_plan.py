"""What ``peftlab bench`` says of its plan."""

from __future__ import annotations

from typing import Any

import pytest

from peftlab.cli.bench import as_text


@pytest.mark.parametrize(
    ("missing", "done", "told"),
    [
        (1, 0, "1 run missing, 0 done; about 20 s (roughly, before any run has been timed; workers: 1)"),
        (2, 1, "2 runs missing, 1 done; about 20 s"),
        (0, 1, "nothing is missing: 1 run done"),
        (0, 3, "nothing is missing: 3 runs done"),
    ],
)
def test_the_plan_counts_in_plain_english(missing: int, done: int, told: str) -> None:
    cell = {"cell": "lora", "trials": 0, "runs": missing + done, "missing": missing, "refused": None}
    shown: dict[str, Any] = {
        "suite": "s", "folder": "f", "tuning": True, "cells": [cell], "missing": missing, "done": done, "workers": 1,
        "estimated_seconds": 20, "estimate_is_rough": True,
    }  # fmt: skip
    lines = as_text(shown).splitlines()
    assert lines[1].split()[:5] == [
        "lora",
        "0",
        "trials",
        *("1 run" if missing + done == 1 else f"{missing + done} runs").split(),
    ]
    assert lines[-1].startswith(told)

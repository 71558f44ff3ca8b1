"""Pairs of restaurant texts for preference tuning: no length, style or table gives away which text is the chosen one."""

from __future__ import annotations

import json
import runpy
import sys
from collections import Counter
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "preference" / "write_pairs.py"


def test_only_the_table_tells_which_text_is_chosen(
    shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        sys, "argv", ["write_pairs.py", "--data", str(shared_data / "e2e_nlg"), "--output", str(tmp_path)]
    )
    runpy.run_path(str(SCRIPT), run_name="__main__")
    assert "240 pairs; mean words: prompt" in capsys.readouterr().out
    tables: dict[str, set[str]] = {}
    for name in ("train", "validation", "test"):
        rows = [json.loads(line) for line in (tmp_path / f"{name}.jsonl").read_text().splitlines()]
        assert Counter(row["chosen"] for row in rows) == Counter(row["rejected"] for row in rows)
        assert all(row["chosen"] != row["rejected"] for row in rows)
        for one, other in zip(rows[::2], rows[1::2], strict=True):
            assert (one["chosen"], one["rejected"]) == (other["rejected"], other["chosen"])
            slots = [dict(slot.split(" : ") for slot in row["prompt"].split(" | ")) for row in (one, other)]
            differing = [slot for slot in slots[0] if slots[0][slot] != slots[1][slot]]
            assert differing == one["slots"].split(", ")
            assert len(differing) >= 3
        tables[name] = {row["prompt"] for row in rows}
        assert name == "train" or len(tables[name]) == len(rows)  # no table twice
    assert not tables["train"] & tables["validation"]
    assert not (tables["train"] | tables["validation"]) & tables["test"]

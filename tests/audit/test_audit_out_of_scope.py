"""Texts of no class: a model that is sure of its own texts only, one that is sure of all, and the verb."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from peftlab.core.audit import AUDITS, Figure
from peftlab.core.errors import UserError
from peftlab.core.splits import Split
from peftlab.testing.audited_rows import audited, split
from tests.conftest import Command, sentences

WORDS = {"pay": ("card", "bill", "bank"), "go": ("train", "ticket", "seat"), "other": ("moon", "tiger", "poem")}


def texts(kind: str, count: int, seed: int) -> list[str]:
    generator = random.Random(seed)
    return [" ".join(generator.choices((*WORDS[kind], "the", "my"), k=8)) for _ in range(count)]


def said(text: str, *, knows: bool = True) -> list[float]:
    """Probabilities by the words of both classes; without any, unsure, or wrongly sure."""
    counts = np.array([sum(text.count(word) for word in WORDS[kind]) for kind in ("pay", "go")], dtype=float)
    if not counts.any():
        counts = np.zeros(2) if knows else np.array([8.0, 0])
    return list(np.exp(counts) / 3000)  # not normalised: the sum is what the energy is made of


def figures(scores: Callable[[str], list[float]], **keys: Any) -> dict[str, Figure]:
    known, labels = texts("pay", 100, 0) + texts("go", 100, 1), ["pay"] * 100 + ["go"] * 100
    train = split("train", texts("pay", 150, 2) + texts("go", 150, 3), ["pay"] * 150 + ["go"] * 150)
    strange = texts("other", 60, 4)

    def read(path: Path, *, need: str, columns: Any = ()) -> Split:
        assert need == "texts"
        everything = {"text": strange + known[:30], "label": ["other"] * 60 + labels[:30]}
        count = 90 if columns else 60
        return Split("data", range(count), {name: everything[name][:count] for name in ("text", *columns)})

    rows = audited(scores, known, labels, ("pay", "go"), train, read)
    part = AUDITS["out_of_scope"].model_validate({"data": "other.csv"} | keys)
    assert part.why_not(rows) is None
    return {figure.name: figure for figure in part.run(rows).figures}


def test_texts_of_no_class_are_told_apart() -> None:
    found = figures(said)
    for name in ("energy", "mahalanobis", "nearest_neighbor"):
        assert found[f"out_of_scope.{name}.auroc"].value > 0.95
        assert found[f"out_of_scope.{name}.fpr95"].value < 0.1
    assert found["out_of_scope.caught"].value > 0.9
    assert found["out_of_scope.rejected"].value < 0.15
    assert found["out_of_scope.rejected"].n == 100  # one half of the rows has set the threshold
    for figure in found.values():
        assert figure.low <= figure.value <= figure.high  # type: ignore[operator]
    first = found["out_of_scope.caught"].examples[0]
    assert set(first) == {"row", "text", "prediction", "score"}


def test_a_model_that_is_sure_of_everything() -> None:
    found = figures(lambda text: said(text, knows=False))
    assert found["out_of_scope.energy.auroc"].value < 0.5
    assert found["out_of_scope.mahalanobis.auroc"].value > 0.95  # its texts still look different


def test_a_withheld_class_in_a_table_with_others() -> None:
    assert figures(said, withheld=["other"])["out_of_scope.caught"].n == 60
    with pytest.raises(UserError, match="trained on `go`"):
        figures(said, withheld=["other", "go"])
    with pytest.raises(UserError, match="there are 0 texts of no class"):
        figures(said, withheld=["nothing"])


def test_the_verb(command: Command, tiny_run: Callable[..., Path], tmp_path: Path) -> None:
    rows = "".join(f"{text},{label}\n" for text, label in sentences(60, seed=9))
    (tmp_path / "new.csv").write_text("text,label\n" + rows)
    (tmp_path / "strange.csv").write_text("text\n" + "".join(f"{text}\n" for text in texts("other", 30, 0)))
    arguments = ("audit", tiny_run(), "--data", "new.csv", "--parts", "out_of_scope")
    done = command(*arguments, "--set", "out_of_scope.data=strange.csv", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["figures"]
    assert {"out_of_scope.energy.auroc", "out_of_scope.mahalanobis.fpr95", "out_of_scope.caught"} <= found.keys()
    assert found["out_of_scope.caught"]["n"] == 30
    for settings, message in {
        (): "--set out_of_scope.data=FILE",
        ("--set", "out_of_scope.data=strange.cvs"): "no such file",
        ("--set", "out_of_scope.data=strange.csv", "--set", "out_of_scope.withheld=[x]"): "no column `label`",
    }.items():
        done = command(*arguments, *settings)
        assert done.returncode == (2 if settings else 0)
        assert message in done.stdout + done.stderr
        assert "Traceback" not in done.stderr


def test_a_threshold_that_so_few_rows_cannot_set_is_left_out() -> None:
    assert "out_of_scope.caught" in figures(said, rejected=0.01)
    assert "out_of_scope.caught" not in figures(said, rejected=0.009)  # 222 rows are needed, and there are 200

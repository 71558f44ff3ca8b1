"""Another table, and contrast sets: what differs is found, what does not is not, and the verb on a tiny run."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from peftlab.audit.two_samples import told_apart
from peftlab.core.audit import AUDITS, Audited, Figure
from peftlab.core.errors import UserError
from peftlab.testing.audited_rows import audited, audited_numbers, split
from tests.conftest import Command, sentences

WORDS = [f"word{at}" for at in range(80)]


def texts(count: int, seed: int, *, also: tuple[str, ...] = (), length: int = 8) -> list[str]:
    generator = random.Random(seed)
    return [" ".join(generator.choices([*WORDS, *also], k=generator.randint(3, length))) for _ in range(count)]


def said(text: str) -> list[float]:
    """By the number in the first word."""
    first = text.split()[0].removeprefix("word")
    share = (int(first) + 0.5) / 80 if first.isdecimal() else 0.3
    return [1 - share, share]


def shifted(new: list[str], labels: list[str] | None = None) -> dict[str, Figure]:
    own = texts(150, 0)
    rows = audited(said, own, ["good" if said(text)[1] > 0.5 else "bad" for text in own],
                   train=split("train", texts(200, 1), ["good"] * 200),
                   read_table=lambda path, need, columns=(): split("data", new, labels or [""] * len(new)))  # fmt: skip
    part = AUDITS["shift"].model_validate({"data": "live.csv", "labeled": labels is not None})
    return {figure.name: figure for figure in part.run(rows).figures}


def alarms(figures: dict[str, Figure]) -> set[str]:
    return {name.removeprefix("shift.") for name, each in figures.items() if (each.p_value or 0) <= 0.05}


def test_texts_of_the_same_kind_give_no_alarm() -> None:
    found = [alarms(shifted(texts(120, seed))) for seed in range(10, 16)]
    assert sum(map(bool, found)) <= 1


def test_what_differs_is_found() -> None:
    found = shifted(texts(120, 2, also=("moon",) * 20, length=14))
    assert {"told_apart", "length", "unknown_words", "words"} <= alarms(found)
    assert "moon" in found["shift.words"].sentence
    assert found["shift.length"].value == pytest.approx(3, abs=1)
    sure = [text for text in texts(900, 3) if said(text)[1] > 0.8][:120]
    found = shifted(sure, ["bad"] * len(sure))
    assert {"answers", "confidence", "error"} <= alarms(found)
    assert found["shift.error"].value == 1
    assert "good" in found["shift.answers"].sentence


def test_two_tables_without_an_error_may_have_some_elsewhere() -> None:
    """An interval from 0 to 0 would be certain of it."""
    new = texts(120, 2)
    error = shifted(new, ["good" if said(text)[1] > 0.5 else "bad" for text in new])["shift.error"]
    assert (error.value, error.p_value) == (0, 1)
    assert error.low is not None
    assert error.high is not None
    assert error.low < -0.01 < 0.01 < error.high


def test_a_table_that_says_one_thing_is_compared_without_a_classifier() -> None:
    found = shifted(["one thing, again and again"] * 60)
    assert "shift.told_apart" not in found
    assert {"unknown_words", "words"} <= alarms(found)


def test_a_classifier_of_two_tables() -> None:
    generator = np.random.default_rng(0)
    right, sure = told_apart(generator.normal(size=(90, 5)), generator.normal(1.5, size=(60, 5)), generator)
    assert len(right) == 60  # thirty of each
    assert right.mean() > 0.8
    assert np.isfinite(sure).sum() == 30
    shares = [told_apart(*generator.normal(size=(2, 60, 5)), generator)[0].mean() for _ in range(30)]
    assert np.mean(shares) == pytest.approx(0.5, abs=0.04)


def contrasts(answers: Callable[[str], list[float]], **more: Any) -> tuple[Audited, dict[str, Figure]]:
    own = [f"{kind} film {at}" for at in range(30) for kind in ("good", "bad")]
    rows = audited(answers, own, [text.split()[0] for text in own])
    rows.rows.columns["set"] = [at // 2 for at in range(60)]  # type: ignore[index]
    part = AUDITS["contrast"].model_validate({"by": "set"} | more)
    return rows, {figure.name: figure for figure in part.run(rows).figures}


def test_sets_are_right_only_as_a_whole() -> None:
    _, found = contrasts(lambda text: [float("good" not in text), float("good" in text)])
    assert found["contrast.consistency"].value == 1
    assert found["contrast.consistency"].n == 30
    _, found = contrasts(lambda text: [0.2, 0.8])
    assert found["contrast.consistency"].value == 0
    assert found["contrast.error"].value == 0.5
    assert found["contrast.unmoved"].value == 1
    assert len(found["contrast.consistency"].examples) == 10  # both texts of five sets


def test_numbers_are_not_wholly_right_or_wrong() -> None:
    texts = [f"text {at}" for at in range(60)]
    rows = audited_numbers(lambda text: 1.0, texts, [1.0 + at % 2 for at in range(60)])
    rows.rows.columns["set"] = [at // 2 for at in range(60)]  # type: ignore[index]
    found = AUDITS["contrast"].model_validate({"by": "set"}).run(rows)
    assert [figure.name for figure in found.figures] == ["contrast.error"]
    assert found.figures[0].value == 0.5
    assert "numbers" in found.notes[0]


def test_changed_texts_in_a_table_of_their_own(command: Command, tiny_run: Callable[..., Path], tmp_path: Path) -> None:
    rows = sentences(60, seed=9)
    other = {"good": "bad", "bad": "good"}
    (tmp_path / "old.csv").write_text("text,label,set\n" + "".join(f"{t},{y},{i}\n" for i, (t, y) in enumerate(rows)))
    (tmp_path / "new.csv").write_text(
        "text,label,set\n" + "".join(f"{t},{other[y]},{i}\n" for i, (t, y) in enumerate(rows[:50]))
    )
    arguments = ("audit", tiny_run(), "--data", "old.csv", "--parts", "contrast,shift", "--json")
    settings = ("contrast.data=new.csv", "contrast.by=set", "shift.data=new.csv", "shift.labeled=true")
    done = command(*arguments, *(part for each in settings for part in ("--set", each)))
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    figures = report["figures"]
    # The texts are the same and their labels are the others: each set has exactly one right answer.
    assert figures["contrast.error"]["value"] == pytest.approx(0.5)
    assert figures["contrast.unmoved"]["value"] == 1
    assert figures["contrast.drop"]["n"] == 50
    assert "10 values of set stand alone" in report["parts"]["contrast"]["notes"][0]
    assert {"shift.told_apart", "shift.error", "shift.answers"} <= figures.keys()
    assert not figures["shift.told_apart"]["alarm"]
    for setting, message in {
        "contrast.by=sett": "no column `sett`",
        "contrast.by=set": "0 sets of two rows",
        "shift.data=none.csv": "no such file",
    }.items():
        done = command(*arguments, "--set", setting)
        assert done.returncode == 2
        assert message in done.stderr
        assert "Traceback" not in done.stderr


def test_too_few_rows_are_said() -> None:
    with pytest.raises(UserError, match="too few"):
        shifted(texts(30, 0))

"""What wrong input gets from `peftlab audit`: one message each, and nothing shown that says nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from peftlab.audit.rows import read_rows
from peftlab.inference.files import reading_config
from peftlab.inference.load_tuned import load_tuned
from peftlab.preparation.load_data import load_data
from tests.conftest import Command, sentences

pytestmark = pytest.mark.slow


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "new.csv"
    rows = sentences(80, seed=9)
    lines = [
        f"{text},{label},{'x' if label == 'good' and at % 2 else 'y'},one,{at},{'few' if at < 3 else 'many'}\n"
        for at, (text, label) in enumerate(rows)
    ]
    path.write_text("text,label,group,single,number,small\n" + "".join(lines))
    return path


def test_each_wrong_input_gets_one_message(
    command: Command, tiny_run: Callable[..., Path], table: Path, tmp_path: Path
) -> None:
    files = {
        "no_label.csv": "text\n" + "a b\n" * 30,
        "other_labels.csv": "text,label\n" + "".join(f"row {at},fine\n" for at in range(30)),
        "short.csv": "text,label\na,good\nb,bad\n",
        "limits.yaml": "fairness.gendre: 0.1\n",
        "nothing.yaml": "",
        "lists.yaml": "age: {old: [1]}\n",
    }
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    cases: list[tuple[list[Any], str]] = [
        (["--data", "nothing.csv"], "nothing.csv"),
        (["--data", "no_label.csv"], "no column `label`"),
        (["--data", "other_labels.csv"], "the label 'fine'"),
        (["--data", "short.csv"], "an audit needs 20 at least to say anything\n  Give it more rows"),
        (["--data", table, "--parts", "group_fairness", "--set", "group_fairness.by=[single]"], "1 different values"),
        (["--data", table, "--parts", "group_fairness", "--set", "group_fairness.by=[number]"], "80 different values"),
        (["--data", table, "--parts", "group_fairness", "--set", "group_fairness.by=[groop]"], "no column `groop`"),
        (["--data", table, "--parts", "fairness", "--set", "fairness.pronouns={actor: actress}"], "no text has a word"),
        (["--data", table, "--parts", "fairness", "--set", "fairness.lists=lists.yaml"], "a list of names is needed"),
        (["--data", table, "--parts", "fairness", "--set", "fairness.lists=lost.yaml"], "no such file"),
        (["--data", table, "--parts", "fairness", "--set", "fairness.language=fr"], "fairness"),
        (["--data", table, "--parts", "fairness", "--fail-under", "limits.yaml"], "fairness.gendre"),
        (["--data", table, "--parts", "errors", "--fail-under", "nothing.yaml"], "the file holds nothing"),
        (["--data", table, "--parts", "nothing"], "nothing"),
        (["--read", "delimiter=;"], "--read: this says how a table is written, and there is none: it has no effect"),
        (["--data", table, "--read", "sheet=Two"], "--read sheet: this says how files of the formats xlsx are written"),
        (["--data", table, "--read", "decimal=,"], "--read decimal: this is for columns of numbers"),
    ]
    for arguments, message in cases:
        done = command("audit", tiny_run(), *arguments)
        assert done.returncode == 2, (arguments, done.stdout, done.stderr)
        assert message in done.stderr, (arguments, done.stderr)
        assert done.stderr.count("Error") <= 1, done.stderr
        assert "Traceback" not in done.stderr
        assert not done.stdout


def test_what_is_too_small_is_said_and_not_shown(command: Command, tiny_run: Callable[..., Path], table: Path) -> None:
    arguments = ("--set", "group_fairness.by=[group]", "--set", "errors.clusters=0", "--slices", "small")
    done = command("audit", tiny_run(), "--data", table, "--parts", "errors,group_fairness", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    notes = report["parts"]["group_fairness"]["notes"]
    assert any("of x: bad" in note for note in notes), notes  # the group has one class only
    assert not any(".x.recall.bad" in name for name in report["figures"])
    assert any("small is few" in note for note in report["parts"]["errors"]["notes"])
    assert not any("column.small.few" in name for name in report["figures"])


def test_rows_that_the_run_may_have_learned_by_now_are_refused(
    command: Command, tiny_run: Callable[..., Path], tmp_path: Path
) -> None:
    """Cut anew from other data, the test rows are other ones."""
    data = tmp_path / "reviews.csv"
    lines = [f"{text},{label}\n" for text, label in sentences(160, seed=3)]
    data.write_text("text,label\n" + "".join(lines))
    run = tiny_run(data=data, steps=2)
    assert command("audit", run, "--parts", "errors").returncode == 0
    data.write_text("text,label\n" + "".join(lines[20:]))
    done = command("audit", run, "--parts", "errors")
    assert done.returncode == 2
    assert "the data have changed since the run, so its test rows may be rows that it has learned" in done.stderr
    (tmp_path / "new.csv").write_text("text,label\n" + "".join(lines[:40]))
    done = command("audit", run, "--parts", "memorization", "--data", "new.csv", "--json")
    assert done.returncode == 0, done.stderr
    assert "the rows of training cannot be read" in json.loads(done.stdout)["skipped"]["memorization"]


def test_of_validation_rows_it_is_said_what_they_were_used_for(
    tiny_run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    tuned = load_tuned(tiny_run())
    own = load_data(tuned.recipe, offline=True, report=lambda message: None)

    def caveats(splits: dict[str, Any]) -> list[str]:
        monkeypatch.setattr("peftlab.audit.rows.load_data", lambda *given, **more: replace(own, splits=splits))
        reading = reading_config(tuned.recipe, None, "utf-8", [])
        return list(read_rows(tuned, None, columns=(), reading=reading, offline=True, report=print).caveats)

    assert not caveats(dict(own.splits))
    (why,) = caveats({name: split for name, split in own.splits.items() if name != "test"})
    assert "chosen and calibrated by them" in why

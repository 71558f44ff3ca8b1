"""The commands of the tutorials run one after the other, as they stand there: on small tables, a tiny model, few steps."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.conftest import Command, sentences
from tests.docs.pages import ROOT, blocks, commands

pytestmark = pytest.mark.slow

TUTORIALS = ROOT / "docs" / "tutorials"
ELSEWHERE = {"serve", "board", "push"}
"""They wait for somebody, or need the Hub."""


def write_tables(folder: Path) -> None:
    """The tables that the tutorials speak of."""
    rows = [(text, label) for text, label in sentences(160)]
    names = {"my.csv": rows[:100], "mine.csv": rows[:100], "labelled.csv": rows[100:130], "new.csv": rows[130:]}
    for name, some in names.items():
        # The first tutorial also takes columns that `init` did not choose.
        lines = "".join(f"{text},{label},{text},{label}\n" for text, label in some)
        (folder / name).write_text(f"text,label,title,topic\n{lines}")
    (folder / "unlabelled.csv").write_text("text\n" + "".join(f"{text}\n" for text, _ in rows[130:]))


def is_cheap(words: list[str]) -> bool:
    """Whether a command ends by itself, and soon. The suite is only listed, and nothing was interrupted."""
    only_listed = words[0] != "bench" or "--dry-run" in words
    return only_listed and not {"--resume", "runs/my-methods"} & set(words) and words[0] not in ELSEWHERE


def test_tutorials_run(
    command: Command, forked_runs: None, tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = ["--set", "training.max_steps=4", "--set", f"model.path={tiny_bert}"]
    more = {"run": few, "tune": [*few, "--trials", "1", "--seeds", "1"]}
    first, run = tmp_path / "tune_my_csv", Path()
    for page in ("tune_my_csv", "compare_methods", "few_labels", "ship_it"):
        here = tmp_path / page
        here.mkdir()
        write_tables(here)
        monkeypatch.chdir(here)
        if here != first:
            shutil.copy(first / "my.yaml", here)
        for block in blocks(TUTORIALS / f"{page}.md", "yaml"):
            (here / "suite.yaml").write_text(block)
        done_here = 0
        for words in filter(is_cheap, commands(TUTORIALS / f"{page}.md")):
            given = [str(run) if word == "RUN" else word for word in words]
            own = ["--offline"] if words[0] == "init" else []
            if words[0] == "run" and run != Path():  # the first one is measured
                own = ["--set", "measure=false"]
            done = command(*given, *more.get(words[0], []), *own)
            assert done.returncode == 0, (page, words, done.stderr)
            done_here += 1
            if words[0] == "init":
                recipe = here / "my.yaml"
                recipe.write_text(re.sub(r'path: ".*?"', f'path: "{tiny_bert}"', recipe.read_text()))
            if run == Path() and words[0] == "run":
                (run,) = (here / "runs").iterdir()
        assert done_here >= 2, page

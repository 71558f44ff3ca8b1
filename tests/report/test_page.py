"""The page, and the same in Markdown and CSV."""

from __future__ import annotations

import csv
import io
import itertools
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from fakes import METHODS, FakeData, FakeMethod, fake_record, write_run, write_suite

from peftlab.cli.report import summary
from peftlab.core.record import write_record
from peftlab.report.choice import Limits
from peftlab.report.csv_file import render_csv
from peftlab.report.document import build_report, report_json
from peftlab.report.headlines import headline
from peftlab.report.markdown import render_markdown
from peftlab.report.page import MARKER, render_html, write_report
from peftlab.report.table import markdown_text
from tests.patience import PATIENCE

pytestmark = pytest.mark.slow

FULL, LORA, ADALORA, *_ = METHODS
MOST_BYTES = 15_000_000


class Text(HTMLParser):
    """The text of a page, and the addresses in it; complains about elements that are not closed."""

    VOID = frozenset({"meta", "input", "br"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.addresses: list[str] = []
        self.feed(page)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "action")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("script", "style"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).replace("\N{NO-BREAK SPACE}", " ").split())


@pytest.fixture(scope="module")
def page(suite: Path) -> str:
    return render_html(build_report([suite], base=suite))


def test_the_page_needs_nothing_else(page: str) -> None:
    assert page.startswith(MARKER)
    assert all(address.startswith("#") for address in Text(page).addresses)
    assert not re.search(r"url\(|@import|https?://", re.sub(r'"command":.*', "", page))
    assert "default-src 'none'" in page


def test_the_page_has_every_part(page: str, suite: Path) -> None:
    report = build_report([suite], base=suite)
    text = Text(page).text
    assert headline(report.comparisons[0]) in text
    for part in (
        "Which one for me?",
        "accuracy × peak memory",
        "accuracy × tokens per second",
        "accuracy × trainable parameters",
        "Memory of training by category",
        "Learning curves: validation",
        "Learning curves: training loss",
        "Was the tuning budget enough?",
        "F1 by class",
        "lora: predicted by true class",
        "Examples on which the methods disagree most",
        "Guards and statuses",
        "Environment",
        "AMD EPYC",
        "peftlab reproduce cells/lora--seed1",
        "added 4.5 s to each run",
        "99.0 % (A paper, table 2), above the interval",
    ):
        assert part in text, part
    for method in report.comparisons[0].methods:
        assert f"{100 * method.mean:.1f} %" in text


def test_a_report_made_again_is_the_same(suite: Path, tmp_path: Path) -> None:
    write_report([suite], tmp_path / "a.html")
    write_report([suite], tmp_path / "b.html")
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_names_are_text_wherever_they_come_from(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>'\"&--|=`x`"
    for number, accuracy in enumerate((0.7, 0.8)):
        method = FakeMethod(f"{evil}{number}", accuracy, 1000, 10**8, 1000, {"rank": evil})
        write_run(tmp_path / str(number), method, 0, FakeData(100), name=method.name)
    write_run(tmp_path / "c", LORA, 0, FakeData(100), status="failed", error=evil, name=f"={evil}")
    report = build_report([tmp_path])
    page = render_html(report)
    assert "<script>alert" not in page
    assert "alert(1)" in Text(page).text
    assert json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1])["comparisons"][0]["methods"]
    markdown = render_markdown(report)
    assert "<script>" not in markdown
    assert all(not row["method"].startswith("=") for row in csv.DictReader(io.StringIO(render_csv(report))))


def test_failed_runs_alone_make_a_page_of_statuses(tmp_path: Path) -> None:
    write_run(tmp_path / "a", LORA, 0, FakeData(50), status="diverged", error="the loss is nan")
    text = Text(render_html(build_report([tmp_path]))).text
    assert "There is nothing to compare" in text
    assert "status diverged: the loss is nan" in text


def test_a_single_run_has_a_page(tmp_path: Path) -> None:
    write_run(tmp_path / "a", LORA, 0, FakeData(50))
    report = build_report([tmp_path])
    text = Text(render_html(report)).text
    assert "There is no other method to compare it with" in text
    assert "Learning curves: validation" in text
    # Nothing is compared, so there are no letters, and nothing speaks of any.
    (method,) = report_json(report)["methods"].values()
    assert method["letters"] == next(csv.DictReader(io.StringIO(render_csv(report))))["groups"] == ""
    assert "share a letter" not in render_markdown(report)
    for told in (text, render_markdown(report), json.dumps(report_json(report), ensure_ascii=False)):
        assert re.search(r"One seed of lora: nothing says how far another seed.s result would lie", told)
        assert "Its interval is over the test examples alone" in told
        assert not re.search(r"get no letter|no test compares|in no group", told, re.IGNORECASE)


def test_runs_without_predictions_curves_or_measures_have_a_page(tmp_path: Path) -> None:
    for method in (FULL, LORA):
        folder = write_run(
            tmp_path / method.name, method, 0, FakeData(50), predictions=False, memory=None, throughput=None, phases={}
        )
        (folder / "metrics.jsonl").write_text('{"step": 1, "lo')
    report = build_report([tmp_path], limits=Limits(memory_bytes=1e9))
    assert "Not measured, so left out" in Text(render_html(report)).text
    assert "Not measured, so left out" in render_markdown(report)


def test_markdown_says_the_same(suite: Path) -> None:
    report = build_report([suite], base=suite, limits=Limits(memory_bytes=7e8))
    text = render_markdown(report).replace("\\", "")
    assert headline(report.comparisons[0]) in text
    for part in (
        "### Methods",
        "Which one for me?",
        report.choices()[0].answer,
        "### Memory of training by category",
        "### Where the curves end",
        "### All trials",
        "### F1 by class",
        "### lora: predicted by true class",
        "### Examples on which the methods disagree most",
        "### Guards and statuses",
        "### Environment",
        "peftlab reproduce cells/lora--seed1",
    ):
        assert part in text, part
    tables = [line for line in render_markdown(report).splitlines() if line.startswith("|")]
    assert all(line.endswith("|") for line in tables)
    widths = [len(re.findall(r"(?<!\\)\|", line)) for line in tables]
    starts = [at for at, line in enumerate(tables) if line.startswith("| :--")]
    for start, end in itertools.pairwise([*starts, len(tables) + 1]):
        assert len(set(widths[start - 1 : end - 1])) == 1, tables[start - 1]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1. lora", r"1\. lora"),
        ("- lora", r"\- lora"),
        ("costs $5 and $6", r"costs \$5 and \$6"),
        ("a ~~b~~ &lt; R&D", r"a \~\~b\~\~ \&lt; R&D"),
        ("2,500 train, 3.5 %", "2,500 train, 3.5 %"),
    ],
)
def test_markdown_is_what_it_says(text: str, expected: str) -> None:
    assert markdown_text(text) == expected


def test_scores_below_zero_are_no_formulas(tmp_path: Path) -> None:
    for seed, score in enumerate((-0.25, 0.5)):
        (tmp_path / str(seed)).mkdir()
        write_record(fake_record(LORA, seed, {"test": {"matthews": score}}, name="-1+1"), tmp_path / str(seed))
    (row,) = csv.DictReader(io.StringIO(render_csv(build_report([tmp_path], metric="matthews"))))
    assert row["scores"] == "-0.25 0.5"
    assert row["method"] == "'-1+1"


def test_a_run_that_cannot_be_compared_is_not_said_to_have_failed(tmp_path: Path) -> None:
    write_record(fake_record(LORA, 0, {"test": {"accuracy": 0.5}}, data=None), tmp_path)
    report = build_report([tmp_path])
    for text in (render_markdown(report), render_html(report), summary(report, tmp_path / "x.html")):
        assert "There is nothing to compare: every run is left out" in text
        assert "holds no fingerprint" in text


def test_csv_has_a_row_for_each_method(suite: Path) -> None:
    report = build_report([suite])
    rows = list(csv.DictReader(io.StringIO(render_csv(report))))
    figures = report_json(report)["methods"]
    assert [row["method"] for row in rows] == list(figures)
    for row in rows:
        method = figures[row["method"]]
        assert float(row["mean"]) == method["mean"]
        assert [float(row["interval_low"]), float(row["interval_high"])] == method["interval"]
        assert float(row["peak_memory_bytes"]) == method["cost"]["peak_memory_bytes"]
        assert row["groups"] == method["letters"]
        assert row["tuning_trials"] == "4"


def test_what_is_left_out_is_in_every_format(tmp_path: Path) -> None:
    folder = write_suite(tmp_path / "suite", [FULL, LORA], examples=100)
    (folder / "cells" / "lora--seed1" / "record.json").write_text("{")
    report = build_report([folder], base=folder)
    reason = "the record is damaged"
    assert reason in Text(render_html(report)).text
    assert reason in render_markdown(report)
    rows = list(csv.DictReader(io.StringIO(render_csv(report))))
    assert [row["paths"] for row in rows if reason in row["excluded_because"]] == ["cells/lora--seed1"]


def test_a_thousand_records(tmp_path: Path) -> None:
    """In under 10 s of the processor (what the clock says depends on who else is at work), without torch, under 15 MB."""
    data = FakeData(500)
    for number in range(334):
        base = METHODS[number % len(METHODS)]
        accuracy = base.accuracy + 0.0002 * (number // 11)
        method = FakeMethod(f"{base.name}_{number}", accuracy, base.trainable, base.activations, base.tokens_per_second)
        for seed in range(3):
            write_run(tmp_path / "runs" / f"{method.name}--seed{seed}", method, seed, data)
    script = (
        "import sys, time\n"
        "from peftlab.cli.app import main\n"
        "sys.argv = ['peftlab', 'report', 'runs', '--output', 'report.html']\n"
        "try:\n    main()\n"
        "finally:\n"
        "    print(sorted({'torch', 'transformers', 'peft', 'sklearn'} & set(sys.modules)), time.process_time())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stderr
    heavy, seconds = done.stdout.splitlines()[-1].rsplit(" ", 1)
    assert heavy == "[]"
    page = tmp_path / "report.html"
    assert page.stat().st_size < MOST_BYTES
    assert "1,002 runs" in Text(page.read_text()).text
    assert float(seconds) < 10

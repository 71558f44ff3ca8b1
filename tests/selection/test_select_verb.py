"""`peftlab select`: what is written, what is left out and counted, and what bad input gets."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image

from peftlab.core.errors import UnsupportedError
from peftlab.core.selection import STRATEGIES, check_strategy
from peftlab.core.task import TASKS
from peftlab.data.near_duplicates import first_alike
from tests.conftest import sentences

pytestmark = pytest.mark.slow

FRESH = [text for text, _ in sentences(40, seed=11)]
KNOWN = [text for text, _ in sentences(240)][:3]


@pytest.fixture(scope="module")
def run(tiny_run: Callable[..., Path]) -> Path:
    return tiny_run()


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    rows = [{"id": f"p{at}", "text": text, "when": "2026-01-02"} for at, text in enumerate(FRESH)]
    rows += [{"id": f"k{at}", "text": text.upper()} for at, text in enumerate(KNOWN)]
    rows += [{"id": "twice", "text": f"  {FRESH[0]}"}, {"id": "near", "text": f"{FRESH[1]} !"}]
    path = tmp_path / "pool.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_every_strategy_writes_whole_rows_with_a_reason(command, run: Path, pool: Path, tmp_path: Path) -> None:
    assert {"random", "margin", "entropy", "badge", "core_set", "cal", "discriminative"} <= set(STRATEGIES)
    for name in STRATEGIES:
        done = command("select", run, "--pool", pool, "--count", 6, "--strategy", name, "--json")
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        assert found["pool"] == 45
        left_out = found["left_out"]
        of_run = sum(count for reason, count in left_out.items() if reason.startswith("in_"))
        assert (of_run, left_out["duplicates"], left_out["near_duplicates"]) == (3, 1, 1)
        rows = found["rows"]
        assert [row["select_rank"] for row in rows] == [1, 2, 3, 4, 5, 6]
        assert len({row["id"] for row in rows}) == 6
        for row in rows:
            assert row["id"] == f"p{row['select_row']}"
            assert (row["text"], row["when"]) == (FRESH[row["select_row"]], "2026-01-02")
            assert row["select_strategy"] == name
            assert row["select_reason"]
    assert "in the run's train rows" in done.stderr


def test_files_by_their_ending(command, run: Path, pool: Path, tmp_path: Path) -> None:
    for name in ("out.csv", "out.jsonl", "out.parquet"):
        words = ["select", run, "--pool", pool, "--count", 4, "--strategy", "entropy", "--set", "candidates=1"]
        done = command(*words, "--output", name)
        assert (done.returncode, done.stdout) == (0, f"4 rows of 45: {name}\n"), done.stderr
    with (tmp_path / "out.csv").open(newline="") as file:
        of_csv = list(csv.DictReader(file))
    of_lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert pq.read_table(tmp_path / "out.parquet").to_pylist() == of_lines
    assert [row["text"] for row in of_csv] == [row["text"] for row in of_lines]
    scores = [row["select_score"] for row in of_lines]
    assert scores == sorted(scores, reverse=True)
    assert f"entropy {scores[0]:.2f} of at most 0.69" in of_csv[0]["select_reason"]
    said = json.loads(command("predict", run, "--input", "out.jsonl", "--json").stdout)["predictions"]
    assert scores[0] == pytest.approx(-sum(p * math.log(p) for p in said[0]["scores"].values()), abs=1e-4)
    again = command("select", run, "--pool", pool, "--count", 4, "--strategy", "entropy", "--output", "out.csv")
    assert again.returncode == 2
    assert "--force" in again.stderr
    shown = command("select", run, "--pool", pool, "--count", 2, "--strategy", "random").stdout.splitlines()
    assert [line.split("\t")[0] for line in shown] == ["drawn by chance"] * 2


@pytest.mark.parametrize(
    ("text", "options", "messages"),
    [
        ("text\n", {}, ["pool.csv: there are no rows"]),
        ("txt\nx\n", {}, ["no column `text`", "Did you mean"]),
        ("text,id\na,1\n,2\n", {}, ["row 2", "Fill these rows"]),
        ("text\na\nb\n", {"--count": 3}, ["3 rows are wanted", "has only 2", "--count 2"]),
        ("text\na\nA\nb\n", {"--count": 3}, ["only 2 can be chosen", "1 there twice"]),
        ("text\na\nA\nb\n", {"--count": 9}, ["only 2 can be chosen", "--count 2"]),
        (f"text\n{KNOWN[0]}\n", {}, ["no row of the pool is left", "1 in the run's"]),
        ("text\na\n", {"--strategy": "badges"}, ["unknown strategy `badges`", "Did you mean `badge`?"]),
        ("text\na\n", {"--set": "candidate=1"}, ["unknown key", "Did you mean `candidates`"]),
        ("text\na\n", {"--set": "candidates=0"}, ["--set: candidates", "greater than 0"]),
        ("text\na\n", {"--output": "out.txt"}, ["the ending"]),
    ],
)
def test_bad_input_gets_a_message(command, run: Path, tmp_path: Path, text, options, messages) -> None:
    (tmp_path / "pool.csv").write_text(text)
    given = {"--pool": "pool.csv", "--count": 1, "--strategy": "entropy", **options}
    done = command("select", run, *(word for pair in given.items() for word in pair))
    assert done.returncode == 2, done.stdout
    for message in messages:
        assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_task_without_class_probabilities(command, tiny_run: Callable[..., Path], tmp_path: Path) -> None:
    lines = "".join(f"{text}\t{len(text)}\n" for text, _ in sentences(120))
    (tmp_path / "lengths.tsv").write_text(f"text\tlabel\n{lines}")
    run = tiny_run(task="{type: text_regression, max_length: 32}", data=tmp_path / "lengths.tsv", steps=2)
    (tmp_path / "pool.csv").write_text("text\n" + "\n".join(FRESH) + "\n")
    words = ["select", run, "--pool", "pool.csv", "--count", 3, "--json", "--strategy"]
    refused = command(*words, "margin")
    assert refused.returncode == 2
    assert "needs the probability of each class" in refused.stderr
    assert "core_set, discriminative or random" in refused.stderr
    found = command(*words, "core_set")
    assert found.returncode == 0, found.stderr
    assert len(json.loads(found.stdout)["rows"]) == 3


def test_tasks_of_other_rows(command, tiny_run: Callable[..., Path], tmp_path: Path) -> None:
    """A pool of queries has no documents; words of several tokens make several rows of a text."""
    pairs = [{"query": text, "document": f"{text} {at}", "rel": at % 2} for at, (text, _) in enumerate(sentences(60))]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in pairs))
    pool = [{"query": text, "document": text, "text": text} for text in [*FRESH, pairs[0]["query"]]]
    (tmp_path / "pool.jsonl").write_text("".join(json.dumps(row) + "\n" for row in pool))
    words = ["--pool", "pool.jsonl", "--count", 4, "--json", "--strategy"]
    run = tiny_run(task="{type: text_embedding, max_length: 32}", data=tmp_path / "pairs.jsonl", steps=1)
    for strategy in ("random", "core_set", "discriminative"):
        done = command("select", run, *words, strategy)
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        assert len(found["rows"]) == 4
        assert sum(count for reason, count in found["left_out"].items() if reason.startswith("in_")) == 1
    prompt = "{type: prompt_classification, max_length: 32, words: {good: great, bad: xylophone}}"
    done = command("select", tiny_run(task=prompt, base="gpt2", steps=1), *words, "badge")
    assert done.returncode == 0, done.stderr
    lists = tmp_path / "lists.jsonl"
    lists.write_text("".join(json.dumps({**row, "query": f"q {at // 4}"}) + "\n" for at, row in enumerate(pairs)))
    run = tiny_run(task="{type: reranking, label: rel, max_length: 32}", data=lists, steps=1)
    for strategy in ("core_set", "margin", "random"):
        refused = command("select", run, *words, strategy)
        assert refused.returncode == 2, refused.stderr
        assert "rows of a table are chosen one by one" in refused.stderr
    task = TASKS["reranking"](label="rel")
    for strategy, told in (("core_set", "needs a vector of each text"), ("margin", "probability of each class")):
        with pytest.raises(UnsupportedError, match=told) as caught:  # as a label curve asks
            check_strategy(STRATEGIES[strategy](), task, where="run")
        assert caught.value.hint == "Choose random."


def test_images_that_the_run_knows_are_left_out(
    command, tiny_vit: Path, tiny_run: Callable[..., Path], tmp_path: Path
) -> None:
    rows = [{"image": f"{at}.png", "label": "ab"[at % 2]} for at in range(46)]
    for at, row in enumerate(rows):
        Image.new("RGB", (8, 8), (5 * at, at % 2 * 200, 90)).save(tmp_path / row["image"])
    for name, part in (("rows", rows[:40]), ("pool", rows[38:])):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    run = tiny_run(base=tiny_vit, task="{type: image_classification}", data=tmp_path / "rows.jsonl", steps=1)
    for strategy in ("random", "core_set"):
        done = command("select", run, "--pool", "pool.jsonl", "--count", 6, "--strategy", strategy, "--json")
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)["rows"]
        assert {row["image"] for row in found} == {row["image"] for row in rows[40:]}


def test_long_texts_in_windows_and_decoders(command, tiny_run: Callable[..., Path], tmp_path: Path) -> None:
    """A vector is of a text, also where the model reads it as several rows, or after virtual tokens."""
    windows = "{type: text_classification, max_length: 8, windows: {stride: 2, most: 3}}"
    for run in (tiny_run(task=windows, steps=2), tiny_run("{type: prompt_tuning}", base="gpt2", steps=2)):
        (tmp_path / "pool.csv").write_text("text\n" + "\n".join(FRESH) + "\n")
        done = command("select", run, "--pool", "pool.csv", "--count", 5, "--strategy", "badge", "--json")
        assert done.returncode == 0, done.stderr
        assert len({row["text"] for row in json.loads(done.stdout)["rows"]}) == 5


def test_near_duplicates_are_those_of_all_pairs() -> None:
    texts = [f"{text} {'x ' * (at % 3)}" for at, (text, _) in enumerate(sentences(150, seed=2))]
    texts += [" ".join(reversed(text.split())) for text in texts[::9]] + ["电影 好", "电影 坏", "好 电影", "!?", "?!"]
    known, rows = [[text] for text in texts[:40]], [[text] for text in texts[40:]]

    def words(row: list[str]) -> set[str]:
        return {*row[0].split()} - {"!?", "?!"} if row[0].isascii() else {*row[0].replace(" ", "")}

    kept, expected = list(enumerate(known)), []
    for at, row in enumerate(rows, start=len(known)):
        own = words(row) or {*row[0]}
        alike = [
            o
            for o, other in kept
            for each in [words(other) or {*other[0]}]
            if len(own & each) >= 0.9 * len(own | each) - 1e-9
        ]
        expected.append(min(alike, default=None))
        if not alike:
            kept.append((at, row))
    assert first_alike(known, rows) == expected
    assert sum(other is not None for other in expected) > 10

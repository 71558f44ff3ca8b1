"""`peftlab init`: tables that nobody has described, and the recipe that is written for them."""

import csv
import json
import random

import pytest
from typer.testing import CliRunner

from peftlab.cli.app import app
from peftlab.core.errors import DataError
from peftlab.proposal.propose import propose
from peftlab.proposal.reading import look_at
from peftlab.recipe.schema import load_recipe

WORDS = [
    "the",
    "order",
    "came",
    "late",
    "and",
    "box",
    "was",
    "broken",
    "but",
    "people",
    "were",
    "kind",
    "on",
    "phone",
    "so",
    "I",
    "will",
    "buy",
    "again",
    "in",
    "May",
]


def texts(count=120, seed=0):
    drawn = random.Random(seed)
    return [" ".join(drawn.choices(WORDS, k=drawn.randint(5, 12))) + f" {at}" for at in range(count)]


def write(path, header, rows, mark=",", encoding="utf-8"):
    with path.open("w", encoding=encoding, newline="") as stream:
        csv.writer(stream, delimiter=mark).writerows([header, *rows] if header else rows)
    return path


def lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def task_of(path):
    return dict(propose(str(path), name="x", offline=True).values["task"])


def some(found, *keys):
    return tuple(found.get(key) for key in ("type", *keys))


def test_tables_of_texts(tmp_path):
    rows = [(str(at), ("good", "bad", "so so")[at % 3], text) for at, text in enumerate(texts())]
    german = write(tmp_path / "g.csv", ["Nr", "Kategorie", "Nachricht"], rows, mark=";")
    assert some(task_of(german), "text", "label") == ("text_classification", "Nachricht", "Kategorie")
    bare = write(tmp_path / "b.csv", None, [row[1:] for row in rows])
    assert some(task_of(bare), "text", "label") == ("text_classification", "column_2", "column_1")
    windows = write(
        tmp_path / "w.csv", ["c", "t"], [(c, f"{t} – déjà vu, über’s Ziel") for _, c, t in rows], ",", "cp1252"
    )
    assert propose(str(windows), name="x", offline=True).values["data"]["encoding"] == "cp1252"
    prices = write(
        tmp_path / "p.csv", ["text", "price"], [(t, f"{100 + at * 7.31:.2f}") for at, t in enumerate(texts())]
    )
    assert some(task_of(prices), "label") == ("text_regression", "price")
    several = [(t, ("a|b", "b", "c|a", "c")[at % 4]) for at, t in enumerate(texts())]
    genres = write(tmp_path / "m.csv", ["title", "genres"], several)
    assert some(task_of(genres), "multi_label", "label_separator") == ("text_classification", True, "|")


@pytest.mark.slow
def test_tables_of_other_tasks(tmp_path):
    said = texts()
    chat = [{"messages": [{"role": "user", "content": t}, {"role": "assistant", "content": "yes"}]} for t in said]
    assert some(task_of(lines(tmp_path / "c.jsonl", chat)), "messages") == ("instruction_tuning", "messages")
    pairs = [{"prompt": t, "chosen": t + " a", "rejected": t + " b"} for t in said]
    assert some(task_of(lines(tmp_path / "p.jsonl", pairs))) == ("preference_tuning",)
    tags = [{"words": t.split(), "ner": ["B-X", *["O"] * (len(t.split()) - 1)]} for t in said]
    assert some(task_of(lines(tmp_path / "t.jsonl", tags)), "tokens", "tags") == (
        "token_classification",
        "words",
        "ner",
    )
    asked = [{"question": "who?", "context": t, "answers": t.split()[0]} for t in said]
    assert some(task_of(lines(tmp_path / "q.jsonl", asked)), "passage") == ("question_answering", "context")
    alike = [{"premise": t, "hypothesis": t[::-1], "label": at % 3} for at, t in enumerate(said)]
    assert some(task_of(lines(tmp_path / "n.jsonl", alike))) == ("text_pair_classification",)
    found = [{"query": t, "positive": t + " x"} for t in said]
    assert some(task_of(lines(tmp_path / "e.jsonl", found))) == ("text_embedding",)


@pytest.mark.slow
def test_of_a_list_of_texts_the_first_one_is_read(tmp_path):
    said = texts()
    several = [
        {"doc_id": at, "question": t, "answers": [f"so {t}", "or not"] if at else []} for at, t in enumerate(said)
    ]
    proposal = propose(str(lines(tmp_path / "a.jsonl", several)), name="x", offline=True)
    assert some(proposal.values["task"], "prompt", "response") == ("instruction_tuning", "question", "answers.0")
    assert proposal.values["data"]["drop_missing"]  # the first row has none
    assert any("`answers.0` is the first of them" in note for note in proposal.notes)
    mined = [{"query": t, "pos": [f"a {t}", f"b {t}"], "neg": [f"no {t}"]} for t in said]
    found = task_of(lines(tmp_path / "b.jsonl", mined))
    assert some(found, "query", "document", "negatives") == ("text_embedding", "query", "pos.0", ["neg.0"])


@pytest.mark.slow
def test_columns_of_several_kinds_are_no_traceback(tmp_path):
    """Documents by number, lists whose later rows hold something else, numbers beyond all floats."""
    own, words = texts(), [["a", "b"]] * 120
    tables = {
        "passage": {"question": own, "document": [at % 7 for at in range(120)], "answer": [f"so {t}" for t in own]},
        "answers": {"question": own * 3, "context": own * 3, "answers": [["a"]] * 240 + [[1, 2]] * 120},
        "tags": {"text": own, "tokens": words, "mixed": [at if at % 2 else "xy" for at in range(1, 121)]},
        "tokens": {"text": own * 3, "tokens": words * 2 + [[{"x": 1}, "b"]] * 120, "tags": [["X", "Y"]] * 360},
        "numbers": {"text": own, "price": [10**400 + at for at in range(120)]},
    }
    for name, columns in tables.items():
        rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        assert task_of(lines(tmp_path / f"{name}.jsonl", rows))["type"]


def test_the_recipe_that_is_written_is_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [(t, "yes" if at % 10 else "no: never", f"2024-05-{at % 28 + 1:02d}") for at, t in enumerate(texts())]
    rows[3] = (rows[3][0], "", rows[3][2])
    write(tmp_path / "my table.csv", ["text", "label", "created"], rows)
    done = CliRunner().invoke(app, ["init", "my table.csv", "--offline", "--yes", "--output", "out/mine.yaml"])
    assert done.exit_code == 0, done.output
    recipe, _ = load_recipe(tmp_path / "out" / "mine.yaml")
    assert recipe.data.source == "../my table.csv"
    assert recipe.data.drop_missing
    assert recipe.evaluation.metric == "macro_f1"  # nine of ten rows are of one class
    assert "`created` holds times" in done.output
    again = CliRunner().invoke(app, ["init", "my table.csv", "--offline", "--yes", "--output", "out/mine.yaml"])
    assert again.exit_code == 2  # nothing is overwritten unasked


@pytest.mark.slow
def test_what_may_be_empty_is_not_said_to_be_left_out(tmp_path):
    rows = [(text, text if at % 3 else "", text[::-1]) for at, text in enumerate(texts())]
    alpaca = write(tmp_path / "a.csv", ["instruction", "input", "output"], rows)
    proposal = propose(str(alpaca), name="x", offline=True)
    assert some(proposal.values["task"], "input") == ("instruction_tuning", "input")
    assert "drop_missing" not in proposal.values["data"]
    rows[:2] = [("", "", "one answer"), ("", "", "another answer")]
    proposal = propose(str(write(alpaca, ["instruction", "input", "output"], rows)), name="x", offline=True)
    assert proposal.reasons["data.drop_missing"] == "`instruction` is empty in 2 rows, which are left out"


def test_what_is_missing_or_repeated_is_counted_in_all_rows(tmp_path):
    """Of a long table some rows are looked at, of both classes that take turns; a row that lacks a value stops a run."""
    rows = [(f"the text of number {at}", "ab"[at % 2]) for at in range(21_000)]
    rows[1] = (rows[1][0], "")
    rows[3] = (rows[0][0].upper(), rows[0][1])
    (tmp_path / "a").mkdir()
    write(tmp_path / "a" / "train.csv", ["text", "label"], rows)
    write(tmp_path / "a" / "test.csv", ["text", "label"], [*rows[5:20], (rows[4][0], " ")])
    proposal = propose(str(tmp_path / "a"), name="x", offline=True)
    assert proposal.values["data"]["drop_missing"]
    assert proposal.reasons["data.drop_missing"] == "`label` is empty in 2 rows, which are left out"
    assert any("1 row repeats the text of another" in note for note in proposal.notes)
    pairs = [(f"the premise of number {at // 3}", f"and what follows is {at}", "ab"[at % 2]) for at in range(90)]
    paired = write(tmp_path / "p.csv", ["premise", "hypothesis", "label"], pairs)
    assert not any("repeat" in note for note in propose(str(paired), name="x", offline=True).notes)


def test_rows_of_one_prompt_are_counted_as_the_run_counts_them(tmp_path):
    """Most rows were said to be taken, and all of the prompts were; the time was that of a few of their rows."""
    said = texts(800)
    rows = [[f"name[The Mill {at // 8}], food[French]", text] for at, text in enumerate(said)]
    table = write(tmp_path / "e2e.csv", ["meaning_representation", "human_reference"], rows)
    found = propose(str(table), name="x", offline=True)
    assert some(found.values["task"], "prompt") == ("text_generation", "meaning_representation")
    assert "counted as one, and all of them are used: 100 of train" in found.notes[1]
    assert found.values["data"]["max_train_examples"] == 500 * 100 // 800
    assert found.reasons["data.max_train_examples"].startswith("of 100,")
    ranks = [{"query": f"{said[at // 4]}", "document": said[-at - 1], "label": at % 4 == 0} for at in range(80)]
    notes = propose(str(lines(tmp_path / "ranks.jsonl", ranks)), name="x", offline=True).notes
    assert "rows with the same `query` are counted as one, and all of them are used: 20 of train" in notes


def test_odd_ways_to_write_a_table_are_found_out(tmp_path):
    rows = [(text, ("good", "bad")[at % 2]) for at, text in enumerate(texts())]
    plain = "text,label\n" + "".join(f"{text},{label}\n" for text, label in rows)
    for encoding in ("utf-16-le", "utf-16-be", "utf-32"):
        (tmp_path / "a.csv").write_text(plain, encoding=encoding)
        assert propose(str(tmp_path / "a.csv"), name="x", offline=True).values["data"]["encoding"] == encoding
    (tmp_path / "b.jsonl").write_text(json.dumps([{"text": text, "label": label} for text, label in rows], indent=1))
    assert propose(str(tmp_path / "b.jsonl"), name="x", offline=True).values["data"]["format"] == "json"
    years = write(
        tmp_path / "c.csv", ["text", "2019", "label"], [(text, at, label) for at, (text, label) in enumerate(rows)]
    )
    proposal = propose(str(years), name="x", offline=True)
    assert "header" not in proposal.values["data"]
    assert some(proposal.values["task"], "text", "label") == ("text_classification", "text", "label")


def test_classes_that_are_numbers_are_called_as_the_run_will_call_them(tmp_path):
    stars = write(tmp_path / "a.csv", ["review", "stars"], [(text, at % 5 + 1) for at, text in enumerate(texts())])
    notes = propose(str(stars), name="x", offline=True).notes
    assert "5 classes: 1 20%, 2 20%, 3 20%, 4 20%, 5 20%" in notes


def test_a_recipe_is_written_over_nothing_that_peftlab_has_read_or_keeps(tmp_path, monkeypatch):
    table = write(tmp_path / "t.csv", ["text", "label"], [(t, "ab"[at % 2]) for at, t in enumerate(texts())])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run/record.json").write_text("{}")
    (tmp_path / "notes").write_text("mine")
    before = table.read_bytes()
    for output, message in (
        ("t.csv", "inputs are never overwritten"),
        ("run/recipe.yaml", "is the folder of a run"),
        ("notes/r.yaml", "is not a folder"),
        ("run", "this is a folder"),
        ("/proc/r.yaml", "nothing can be written in /proc"),
        (f"{'n' * 300}.yaml", "nothing can be written in"),
    ):
        done = CliRunner().invoke(app, ["init", "t.csv", "--offline", "--force", "--output", output])
        assert done.exit_code == 2, done.output
        assert message in done.output
        assert "Traceback" not in done.output
    assert table.read_bytes() == before


def test_a_table_that_needs_keys_is_read_by_hand(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "table").write_text("x")
    done = CliRunner().invoke(app, ["init", "table", "--offline"])
    assert done.exit_code == 2
    assert "Set `data.format`" in done.output
    assert "`init` takes no keys: save the table as usual" in done.output
    for name in ("lists/dev.json", "splits/train.json", "splits/test.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        lists = {"one": [{"sentence": text} for text in texts()], "other": [{"sentence": "a good day"}]}
        (tmp_path / name).write_text(json.dumps(lists, indent=1))
    for data in ("lists/dev.json", "lists", "splits"):  # JSON is not read as lines with one column
        done = CliRunner().invoke(app, ["init", data, "--offline", "--output", "r.yaml"])
        assert done.exit_code == 2, done.output
        assert "the lists differ in length: `one`" in done.output
        assert ("name one file of the folder" in done.output) is (data != "lists/dev.json")


def test_tables_to_refuse(tmp_path):
    numbers = write(tmp_path / "n.csv", ["user", "item", "stars"], [(at, at % 7, at % 5) for at in range(50)])
    with pytest.raises(DataError, match="no column looks like a text"):
        task_of(numbers)
    with pytest.raises(DataError, match="too few"):
        task_of(write(tmp_path / "s.csv", ["text", "label"], [("a b c d", "x")] * 3))


def test_a_person_is_asked_where_two_columns_could_be_meant(tmp_path):
    rows = [(t, ("a", "b")[at % 2], ("c", "d", "e")[at % 3]) for at, t in enumerate(texts())]
    table = write(tmp_path / "t.csv", ["text", "topic", "intent"], rows)
    shown = []
    found = propose(str(table), name="x", offline=True, ask=lambda question, answers: shown.extend(answers) or 1)
    assert len(shown) == 2
    assert found.values["task"]["label"] in shown[1]


def test_a_split_s_name_is_a_word_of_its_own(tmp_path):
    rows = "text,label\n" + "".join(f"a text of number {number},{'ab'[number % 2]}\n" for number in range(40))
    for folder, names, expected in (
        ("plain", ("my_trainset.csv", "testdata-a.csv", "x_dev2.csv"), {"train", "test", "validation"}),
        ("others", ("train.csv", "latest.csv", "retrieval.csv", "contest.csv"), {"train"}),
    ):
        (tmp_path / folder).mkdir()
        for place, name in enumerate(names):
            (tmp_path / folder / name).write_text(rows.replace("number", f"number {place}"))
        assert set(look_at(str(tmp_path / folder)).tables) == expected

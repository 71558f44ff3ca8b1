"""One class however it is spelt; an order that is a function of the classes alone; rows to which no label applies."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from peftlab.core.errors import DataError
from peftlab.core.splits import Split
from peftlab.core.task import Task
from peftlab.data.data_config import DataConfig
from peftlab.data.row_rules import RowRules
from peftlab.data.splits import load_splits
from peftlab.tasks._labels import class_finder, class_names, in_order, is_blank, label_key, written_list
from peftlab.tasks._word_lists import listed
from peftlab.tasks.language.conversations import parsed_messages
from peftlab.tasks.spans.answers import read_answers
from peftlab.tasks.text_classification import TextClassification
from peftlab.tasks.text_regression import TextRegression


def split(name: str = "train", **columns: list[Any]) -> Split:
    return Split(name, list(range(len(next(iter(columns.values()))))), columns, source="rows.csv")


@pytest.mark.parametrize(
    "spellings",
    [
        ["good", " good", "good\t", "good\u00a0", "\ufeffgood", "go\u200bod", "good\u200d", "\u2060good\u200e"],
        ["New York", "New  York", "New\u00a0York", " New\u3000York "],
        ["1", "1.0", 1, 1.0, "１", " 1 ", "1."],
        [True, "True", "true", "TRUE"],
        ["café", "cafe\u0301", "ｃafé"],
        ["ガ", "ｶﾞ"],
        ["❤", "❤\ufe0f"],
    ],
)
def test_spellings_of_one_class_are_one(spellings: list[Any]) -> None:
    assert len(class_names(spellings)) == 1
    find = class_finder(("other", *class_names(spellings).values()))
    assert {find(spelling) for spelling in spellings} == set(class_names(spellings).values())


@pytest.mark.parametrize(
    "names", [["good", "Good"], ["007", "7"], ["3.1", "3.10"], ["²", "2"], ["1", "-1"], ["a b", "ab"], ["us", "US"]]
)
def test_what_may_be_two_classes_stays_two(names: list[str]) -> None:
    assert len(class_names(names)) == 2
    assert {class_finder(names)(name) for name in names} == set(names)


@pytest.mark.parametrize(
    "names",
    [
        ["2", "nan", "1", "10", "NaN"],
        ["inf", "1", "-inf", "a", "nan"],
        ["b", "2", "a", "1.5", "-3"],
        ["1_0", "9", "nan", "11"],
    ],
)
def test_the_order_of_classes_does_not_depend_on_the_order_they_come_in(names: list[str]) -> None:
    assert len({in_order(order) for order in itertools.permutations(names)}) == 1


def test_words_come_after_numbers_also_those_that_python_reads_as_numbers() -> None:
    assert in_order({"nan", "10", "9", "inf", "a"}) == ("9", "10", "a", "inf", "nan")


def test_old_runs_with_two_classes_of_one_key_keep_both() -> None:
    find = class_finder(("1", "1.0"))
    assert (find("1"), find("1.0"), find("２")) == ("1", "1.0", None)


def test_a_spelling_of_another_file_is_the_class_of_training() -> None:
    task = TextClassification()
    labels = task.learn_labels(split(text=["a", "b", "c"], label=[1, 2, 1]))
    test = split("test", text=["a", "b", "c"], label=["1.0", "\ufeff2", " 2"])
    task.check_split(test, labels)
    assert labels == ("1", "2")
    assert task.strata(test) == ["1.0", "2", "2"]
    notices = task.notices({"train": split(text=["a", "b"], label=[1, 2]), "test": test}, labels)
    assert "'1', '1.0'" in notices["spellings_merged"]


def test_classes_that_differ_in_case_are_told() -> None:
    notices = TextClassification().notices({"train": split(text=["a", "b"], label=["x", "X"])}, ("X", "x"))
    assert "X and x" in notices["classes_alike_but_for_case"]
    assert TextClassification().notices({"train": split(text=["a", "b"], label=["x", "y"])}, ("x", "y")) == {}


@pytest.mark.parametrize(
    "text", ["", " ", "\t\n", "\u200b", "\ufeff", "\u00a0\u200d", "\u2060\ufe0f", "\u3164", "\x00"]
)
def test_texts_that_show_nothing_are_blank(text: str) -> None:
    assert is_blank(text)


@pytest.mark.parametrize("text", ["a", "😀", ".", "\u200d👩", "١", "-"])
def test_texts_that_show_something_are_not(text: str) -> None:
    assert not is_blank(text)


MULTI = TextClassification(label="labels", multi_label=True)


def loaded(task: Task, source: Path, **settings: Any) -> Any:
    return load_splits(
        DataConfig(source=str(source), **settings),
        RowRules(
            text_columns=task.text_columns(),
            label_columns=task.label_columns(),
            strata=task.strata,
            arrange=lambda rows: task.tidy_rows(task.arrange(rows)),
            nullable_columns=task.nullable_columns(),
            classes=task.classes,
        ),
        seed=0,
    )


@pytest.mark.parametrize("drop_missing", [False, True])
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rows.csv", 'text,labels\nx1,"a,b"\nx2,\nx3,a\nx4,"  "\n'),
        ("rows.jsonl", '{"text":"x1","labels":["a","b"]}\n{"text":"x2","labels":null}\n'
                       '{"text":"x3","labels":["a"]}\n{"text":"x4","labels":[]}\n'),
        ("rows.json", '[{"text":"x1","labels":"a, b"},{"text":"x2","labels":""},{"text":"x3","labels":"a"},'
                      '{"text":"x4"}]'),
        ("rows.tsv", "text\tlabels\nx1\t('a', 'b')\nx2\tset()\nx3\t{'a'}\nx4\t()\n"),
        ("rows.tsv", "text\tlabels\nx1\t[a, b]\nx2\t[None]\nx3\t['a']\nx4\t[ ]\n"),
        ("rows.tsv", "text\tlabels\nx1\t['a' 'b']\nx2\t[nan]\nx3\t[a]\nx4\t[null]\n"),
        ("rows.tsv", "text\tlabels\nx1\t['a', 'b']\nx2\t[]\nx3\ta\nx4\t,\n"),
    ],
)  # fmt: skip
def test_a_row_to_which_no_label_applies_is_a_negative(
    tmp_path: Path, tiny_bert: Path, name: str, content: str, drop_missing: bool
) -> None:
    from transformers import AutoTokenizer

    (tmp_path / name).write_text(content)
    data = loaded(
        MULTI, tmp_path / name, drop_missing=drop_missing, test_fraction=0, validation_fraction=0, deduplicate=False
    )
    train = data.splits["train"]
    assert len(train) == 4
    labels = MULTI.learn_labels(train)
    assert labels == ("a", "b")
    MULTI.check_split(train, labels)
    tokenizer = AutoTokenizer.from_pretrained(tiny_bert)
    encoded = MULTI.encode(train, tokenizer, labels)
    assert [example["label"] for example in encoded.examples] == [[1, 1], [0, 0], [1, 0], [0, 0]]


def test_a_column_that_is_not_there_or_all_empty_is_still_refused(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("text,label\nx1,a\nx2,b\n")
    with pytest.raises(DataError, match="no column `labels`"):
        loaded(MULTI, tmp_path / "rows.csv")
    (tmp_path / "rows.csv").write_text("text,labels\nx1,\nx2,\n")
    with pytest.raises(DataError, match="missing in every row"):
        loaded(MULTI, tmp_path / "rows.csv")


@pytest.mark.parametrize("task", [TextClassification(), TextRegression()])
@pytest.mark.parametrize("blank", ["", " ", "\u200b\ufeff"])
def test_blank_texts_are_missing_and_can_be_dropped(tmp_path: Path, task: Task, blank: str) -> None:
    rows = [{"text": f"x{at}", "label": at % 2} for at in range(8)] + [{"text": blank, "label": 1}]
    (tmp_path / "rows.json").write_text(str(rows).replace("'", '"').encode().decode("unicode-escape"), encoding="utf-8")
    with pytest.raises(DataError, match=r"row 9: the column `text` is missing or empty\n.*drop_missing"):
        loaded(task, tmp_path / "rows.json")
    data = loaded(task, tmp_path / "rows.json", drop_missing=True)
    assert sum(data.summary.rows.values()) == 8
    assert data.summary.notes["rows_dropped_missing"] == 1


def test_a_class_that_a_cap_removes_is_named_with_the_key(tmp_path: Path) -> None:
    rows = "".join(f"x{at},{'rare' if at == 7 else 'ab'[at % 2]}\n" for at in range(200))
    (tmp_path / "rows.csv").write_text("text,label\n" + rows)
    outcomes = set()
    for split_seed in range(6):
        data = loaded(TextClassification(), tmp_path / "rows.csv", max_train_examples=20, split_seed=split_seed)
        kept = "rare" in data.splits["train"].columns["label"]
        assert data.lost_classes == ({} if kept else {"rare": "data.max_train_examples"})
        outcomes.add(kept)
    assert outcomes == {True, False}
    assert loaded(TextClassification(), tmp_path / "rows.csv").lost_classes == {}


def test_a_class_that_lives_in_the_test_texts_only_is_lost_to_deduplication(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("text,label\nx1,a\nx2,b\nx3,c\nx4,a\nx5,b\nx6,a\n")
    (tmp_path / "test.csv").write_text("text,label\nx3,c\n")
    assert loaded(TextClassification(), tmp_path).lost_classes == {"c": "data.deduplicate"}


def test_keys_are_equal_for_clean_names_and_themselves() -> None:
    for name in ("good", "New York", "7", "007", "True-ish", "日本"):
        assert label_key(name) == name


@pytest.mark.parametrize(
    ("multi", "value", "hint"),
    [
        (False, {"name": "a"}, "task.label: labels.name"),
        (True, {"a": 1, "b": 0}, "task.label: labels.a"),
        (False, ["a"], "task.multi_label: true"),
        (False, [], "task.multi_label: true"),
    ],
)
def test_a_label_that_is_none_is_refused(multi: bool, value: Any, hint: str) -> None:
    task = TextClassification(label="labels", multi_label=multi)
    with pytest.raises(DataError, match="and no label") as caught:
        task.learn_labels(split(text=["x", "y"], labels=[value, value]))
    assert hint in str(caught.value)


def test_a_number_that_training_lacks_is_told_like_any_label() -> None:
    task = TextClassification(label="labels")
    with pytest.raises(DataError, match=r"the label 2\.5 of the test split"):
        task.check_split(split("test", text=["x"], labels=[2.5]), ("0.5", "1.5"))


def test_labels_that_another_separator_parts_are_told() -> None:
    task = TextClassification(label="labels", multi_label=True)
    train = split(text=["x", "y", "z"], labels=["a;b", "a", "b"])
    assert (
        "task.label_separator: ';'" in task.notices({"train": train}, task.learn_labels(train))["labels_may_be_several"]
    )
    plain = split(text=["x", "y", "z"], labels=["a,b", "a/c", "b d"])
    assert "labels_may_be_several" not in task.notices({"train": plain}, task.learn_labels(plain))


@pytest.mark.parametrize("text", ["[" * 100_000 + "]" * 100_000, f"[{'-' * 100_000}1]"])
def test_brackets_without_end_are_a_text_like_any_other(text: str) -> None:
    assert written_list(text) is None
    assert listed(text) == text
    with pytest.raises(DataError, match="row 3: a list of messages is needed"):
        parsed_messages(text, "row 3")
    assert [answer.text for answer in read_answers(text, text, "row 3")] == [text]

"""Rows with equal texts: what counts as a duplicate, what never gets into two splits, and what is said of it."""

import json
import re

import pytest

from peftlab.core.config import parse_yaml
from peftlab.core.splits import Split
from peftlab.core.task import TASKS
from peftlab.data import notices
from peftlab.data.notices import describe_notes
from peftlab.preparation.load_data import load_data
from peftlab.recipe.schema import build_recipe
from peftlab.tasks.language.conversations import conversations_of_columns


def load(tmp_path, rows, task, data=""):
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    text = f"model: {{path: x}}\ntask: {task}\ndata: {{source: a.jsonl{data}}}\nmethod: {{type: lora}}"
    recipe = build_recipe(parse_yaml(text, source="a.yaml"), default_name="a")
    return load_data(recipe, folder=tmp_path, offline=True, report=lambda line: None)


def responses_of(data):
    return {
        name: [
            (json.loads(context)[0]["content"], response)
            for context, texts in zip(split.columns["context"], split.columns["responses"], strict=True)
            for response in texts
        ]
        for name, split in data.splits.items()
    }


ALPACA = "{type: instruction_tuning, layout: alpaca}"
E2E = "{type: text_generation, prompt: mr, response: ref}"


def alpaca(count, prompts, spelling=lambda number, text: text):
    return [
        {"instruction": spelling(row, f"Name thing {row % prompts}"), "input": "", "output": f"answer {row}"}
        for row in range(count)
    ]


def test_equal_prompts_with_other_responses_are_no_duplicates(tmp_path):
    data = load(tmp_path, alpaca(150, 82), ALPACA)
    kept = [pair for pairs in responses_of(data).values() for pair in pairs]
    assert len(kept) == len(set(kept)) == 150
    assert data.summary.notes["rows_with_further_responses"] == 68
    assert describe_notes(data.summary.notes) == [
        "68 rows hold another response to the prompt of an earlier row, and are kept with it: rows are counted by prompts"
    ]


@pytest.mark.parametrize("spelling", [str.upper, lambda text: f" {text} ", lambda text: text.replace(" ", "  ")])
@pytest.mark.parametrize("task", [ALPACA, E2E])
def test_references_of_prompts_that_differ_in_case_or_blanks_stay_and_stay_together(spelling, task, tmp_path):
    rows = alpaca(120, 30, lambda row, text: spelling(text) if row >= 60 else text)
    if task == E2E:
        rows = [{"mr": row["instruction"], "ref": row["output"]} for row in rows]
    data = load(tmp_path, rows, task)
    by_split = responses_of(data)
    assert sum(map(len, by_split.values())) == 120
    prompts = {name: {" ".join(prompt.split()).lower() for prompt, _ in pairs} for name, pairs in by_split.items()}
    assert not prompts["train"] & prompts["test"]
    assert not prompts["train"] & prompts["validation"]
    assert not prompts["validation"] & prompts["test"]


def test_a_row_that_is_there_twice_is_a_duplicate_of_itself(tmp_path):
    rows = alpaca(60, 30)
    data = load(tmp_path, [*rows, *rows[:7]], ALPACA)
    assert sum(map(len, responses_of(data).values())) == 60
    assert data.summary.notes["rows_with_equal_responses"] == 7
    assert "7 rows were left out, since an earlier row has the same prompt and response" in describe_notes(
        data.summary.notes
    )


def test_chats_with_one_beginning_and_several_ends_are_kept(tmp_path):
    chat = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "hello"},
        {"role": "user", "content": "?"},
    ]
    rows = [{"m": [*chat, {"role": "assistant", "content": f"end {row}"}]} for row in range(3)]
    rows += [
        {"m": [{"role": "user", "content": f"q {row}"}, {"role": "assistant", "content": "a"}]} for row in range(20)
    ]
    data = load(tmp_path, rows, "{type: instruction_tuning, messages: m}")
    assert sum(map(len, responses_of(data).values())) == 23


def test_prompts_of_a_given_test_file_leave_train_with_all_their_responses(tmp_path):
    (tmp_path / "test.jsonl").write_text(json.dumps({"mr": "a", "ref": "x"}))
    rows = [{"mr": "A", "ref": "y"}, {"mr": "a", "ref": "z"}, *({"mr": f"b {row}", "ref": "w"} for row in range(9))]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    text = f"model: {{path: x}}\ntask: {E2E}\ndata: {{source: {{train: a.jsonl, test: test.jsonl}}}}\nmethod: {{type: lora}}"
    recipe = build_recipe(parse_yaml(text, source="a.yaml"), default_name="a")
    data = load_data(recipe, folder=tmp_path, offline=True, report=lambda line: None)
    assert not any(prompt.lower() == "a" for name in ("train", "validation") for prompt, _ in responses_of(data)[name])
    assert "2 rows of train were left out, since their text is in test" in describe_notes(data.summary.notes)
    (line,) = describe_notes({"removed_from_train_because_in_test": 1})
    assert line == "1 row of train was left out, since its text is in test"


CLASSES = "{type: text_classification}"


def test_of_a_text_with_two_labels_one_row_stays_and_that_is_said(tmp_path):
    rows = [{"text": f"t {row}", "label": "ab"[row % 2]} for row in range(20)] + [{"text": "T  3", "label": "a"}]
    data = load(tmp_path, rows, CLASSES)
    assert sum(map(len, data.splits.values())) == 20
    assert describe_notes(data.summary.notes) == [
        "1 text has copies with another label",
        "1 row of train was left out, since its text was there before",
    ]


def test_pairs_are_equal_in_both_texts(tmp_path):
    rows = [{"a": f"x {row // 2}", "b": f"y {row % 2}", "label": row % 2} for row in range(20)]
    data = load(tmp_path, rows, "{type: text_pair_classification, text: [a, b]}")
    assert sum(map(len, data.splits.values())) == 20


def test_a_number_that_differs_for_one_text_is_a_conflict(tmp_path):
    rows = [{"text": f"t {row}", "label": row} for row in range(20)] + [{"text": "t 3", "label": 30}]
    assert load(tmp_path, rows, "{type: text_regression}").summary.notes["conflicting_labels"] == 1


def test_classes_with_fewer_rows_than_asked_are_said(tmp_path):
    rows = [{"text": f"t {row}", "label": "aab"[row % 3]} for row in range(30)]
    split = ", test_fraction: 0, validation_fraction: 0"
    for count, told in ((11, ["1 class has fewer training rows than data.max_train_examples_per_class"]), (10, [])):
        data = load(tmp_path, rows, CLASSES, f"{split}, max_train_examples_per_class: {count}")
        assert describe_notes(data.summary.notes) == told


def test_classes_that_are_found_once_are_said(tmp_path):
    rows = [{"text": f"t {row}", "label": "ab"[row % 2]} for row in range(20)]
    data = load(tmp_path, [*rows, {"text": "odd", "label": "c"}], CLASSES)
    assert describe_notes(data.summary.notes) == [
        "the class 'c' has one row only: it is learned from, and never measured"
    ]
    assert "c" in data.splits["train"].columns["label"]


def test_rows_without_a_value_are_counted(tmp_path):
    rows = [{"text": f"t {row}", "label": "ab"[row % 2] if row else None} for row in range(20)]
    data = load(tmp_path, rows, CLASSES, ", drop_missing: true")
    assert describe_notes(data.summary.notes) == ["1 row was left out, since a value is missing (data.drop_missing)"]


def test_texts_in_two_splits_are_said_where_duplicates_stay(tmp_path):
    rows = [{"text": f"t {row % 5}", "label": "ab"[row % 2]} for row in range(60)]
    notes = load(tmp_path, rows, CLASSES, ", deduplicate: false").summary.notes
    assert any("texts are in two splits" in line for line in describe_notes(notes))


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "mac-roman"])
def test_texts_that_were_garbled_before_are_said(encoding, tmp_path):
    rows = [{"text": f"schön {row}, naïve é", "label": "ab"[row % 2]} for row in range(20)]
    assert "texts_garbled" not in load(tmp_path, rows, CLASSES).summary.notes
    garbled = [{**row, "text": row["text"].encode().decode(encoding)} for row in rows[:3]]
    lost = [{"text": "sch\ufffdn", "label": "a"}]
    notes = load(tmp_path, [*garbled, *lost, *rows[4:]], CLASSES).summary.notes
    assert "4 texts hold lost or garbled characters" in "".join(describe_notes(notes))


def test_one_of_each_is_told_in_the_singular():
    told = [
        *(describe_notes({name: 1}) for name in notices._OF_DATA),
        *(describe_notes({"train": {name: 1}}) for name in notices._OF_SPLIT),
    ]
    for (line,) in told:
        assert not re.match(
            r"1 (changed |different |earlier )?(\w+(xt|w|ge|rd|pt|on|er|se)s|copies|classes)\b", line
        ), line
        assert not re.search(r" (are(?! counted)|were|have|they|their|hold) ", line), line


def test_what_was_cut_is_told_by_split():
    notes = {
        "train": {"texts_cut": 12, "texts_at_max_length": 13, "steps": 4},
        "test": {"prompts_cut": 1, "odd_things": 2},
    }
    assert describe_notes(notes) == [
        "12 texts of train were cut to task.max_length",
        "1 prompt of test lost its beginning: it does not fit into task.max_length",
        "odd things of test: 2",
    ]


def test_responses_to_one_prompt_are_not_each_compared_with_all_others():
    compared = []

    class Text(str):
        __hash__ = str.__hash__

        def __eq__(self, other):
            compared.append(other)
            return str.__eq__(self, other)

    texts = [f"joke {at % 60}" for at in range(80)]
    rows = Split("train", range(80), {"p": ["Tell one"] * 80, "r": list(map(Text, texts))}, "a.jsonl")
    split = conversations_of_columns(rows, prompt="p", response="r", extra=None)
    assert split.columns["responses"] == [texts[:60]]
    assert split.notes == {"rows_with_further_responses": 59, "rows_with_equal_responses": 20}
    assert len(compared) <= 200  # of each with each other one there would be 1,770 and more


def test_an_image_with_several_texts_is_in_one_split_and_notes_speak_of_images(tmp_path):
    """Copies of a file under another name are the same image."""
    for at in range(12):
        for copy in "ab":
            (tmp_path / f"{at}{copy}.png").write_bytes(b"image %d" % at)
    rows = [
        {"image": f"{at}{copy}.png", "text": f"{said} {at}"}
        for at in range(12)
        for copy in "ab"
        for said in ("a", "the")
    ]
    task = "{type: image_text_embedding}"
    data = load(tmp_path, rows, task)
    images = [{image.by_content(where=name) for image in split.columns["image"]} for name, split in data.splits.items()]
    assert len(images) == 3
    assert sum(map(len, images)) == len(set.union(*images)) == 12

    def told(more: str = "") -> str:
        return "\n".join(
            describe_notes(load(tmp_path, rows, task, more).summary.notes, TASKS["image_text_embedding"].compared_by)
        )

    assert told() == "24 rows of train were left out, since they were there before"
    assert "images are in two splits: what is measured on them is too good" in told(", deduplicate: false")

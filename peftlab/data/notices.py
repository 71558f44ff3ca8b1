"""What was left out of the data, merged or cut, in sentences."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

FEW = 5
_OF_DATA = {
    "rows_dropped_missing": "{} rows were left out, since a value is missing (data.drop_missing)",
    "texts_garbled": "{} texts hold lost or garbled characters (� or Ã¼), and were written so: mend the file",
    "duplicates_removed": "{} rows of train were left out, since their text was there before",
    "conflicting_labels": "{} texts have copies with another label, so one of the two is wrong",
    "classes_with_fewer_rows_than_asked": "{} classes have fewer training rows than data.max_train_examples_per_class",
    "augmented_rows_added": "{} changed copies of training rows were added (data.augmentation)",
    "augmented_rows_unchanged": "{} copies of training rows were not added, since nothing in them has changed",
    "augmented_rows_dropped": "{} changed copies of training rows were not added, since their text is there already",
    "augmented_rows_disagreed": "{} changed copies of training rows were not added, since a teacher gives them another "
    "class than the rows",
    "augmented_unlabeled_rows_added": "{} changed copies of texts without labels are compared with them "
    "(data.augmentation)",
    "augmented_unlabeled_rows_unchanged": "{} copies of texts without labels were left out, since nothing in them has "
    "changed",
    "augmented_unlabeled_rows_dropped": "{} changed copies of texts without labels were left out, since their text is "
    "there already",
    "augmented_unlabeled_rows_disagreed": "{} changed copies of texts without labels were left out, since a teacher "
    "gives them another class than the texts",
    "unlabeled_rows": "{} texts without labels are there to learn from",
    "unlabeled_rows_without_text": "{} rows without labels were left out, since they have no text",
    "unlabeled_rows_in_train": "{} rows without labels were left out, since their text is in train",
    "unlabeled_rows_in_validation": "{} rows without labels were left out, since their text is in validation",
    "unlabeled_rows_in_test": "{} rows without labels were left out, since their text is in test",
    "unlabeled_rows_there_twice": "{} rows without labels were left out, since their text was there before",
    "unlabeled_rows_near_held_out_rows": "{} rows without labels were left out, since a validation or test row is "
    "nearly the same",
    "train_rows_that_test_teachers": "{} rows of train were left out, since a teacher is tested on them",
    "validation_rows_that_trained_teachers": "{} rows of validation were left out, since a teacher has learned them",
    "test_rows_that_trained_teachers": "{} rows of test were left out, since a teacher has learned them",
    "rows_replayed": "{} earlier training rows are learned again (continues.replay)",
    "train_rows_of_earlier_runs": "{} rows of train were left out, since an earlier run is tested on them",
    "validation_rows_of_earlier_runs": "{} rows of validation were left out, since an earlier run has learned them",
    "test_rows_of_earlier_runs": "{} rows of test were left out, since an earlier run has seen them",
    "unlabeled_rows_of_earlier_runs": "{} rows without labels were left out, since an earlier run is tested on them",
    "unlabeled_rows_that_test_teachers": "{} rows without labels were left out, since a teacher is tested on them",
    "texts_in_two_splits": "{} texts are in two splits: what is measured on them is too good",
    "rows_with_further_responses": "{} rows hold another response to the prompt of an earlier row, and are kept with "
    "it: rows are counted by prompts",
    "rows_with_equal_responses": "{} rows were left out, since an earlier row has the same prompt and response",
}
_OF_SPLIT = {
    "texts": "{} different texts in {split}",
    "images": "{} different images in {split}",
    "texts_cut": "{} texts of {split} were cut to task.max_length",
    "texts_cut_behind_windows": "{} texts of {split} lost their end: they have more windows than task.windows.most",
    "words_without_tokens": "{} words of {split} have no tokens, and so no prediction",
    "prompts_cut": "{} prompts of {split} lost their beginning: they do not fit into task.max_length",
    "prompt_ends_cut": "{} prompts of {split} lost their end: they do not fit into task.max_length",
    "questions_cut": "{} questions of {split} lost their end: they take more than half of task.max_length",
    "answers_in_no_window": "{} answers of {split} are whole in no window of their passage, and are not learned: raise "
    "task.stride",
    "prompts_cut_for_generation": "{} prompts of {split} were cut before a response was written to them",
    "earlier_responses_cut_away": "{} earlier responses in chats of {split} were cut away: they do not fit into "
    "task.max_length",
    "rows_dropped_response_too_long": "{} rows of {split} were left out: their response does not fit into "
    "task.max_length",
}
_OF_EQUAL_ROWS = frozenset({"duplicates_removed", "conflicting_labels", "texts_in_two_splits"})
_SILENT = frozenset(
    {"texts_at_max_length", "examples_packed", "steps", "passages_in_windows", "texts_in_windows", "windows_cut"}
)
"""Counts for the record that take nothing away from anybody, as no note does that is not a count."""


def describe_notes(notes: Mapping[str, Any], compared_by: str = "text") -> list[str]:
    """A sentence for everything in a record's notes on its data that happened at least once.

    Args:
        notes: Of :class:`peftlab.core.record.DataSummary`: counts, and for each split the counts of its encoding.
        compared_by: What equal rows have in common, by the task.
    """
    lines: list[str] = []
    for name, value in notes.items():
        if isinstance(value, Mapping):
            lines += [_line(_OF_SPLIT, each, count, name) for each, count in value.items() if _is_news(each, count)]
        elif name == "classes_with_one_row":
            lines.append(_one_row(value))
        elif name == "self_training" and value:
            lines.append(
                _line(
                    {name: "{} texts are learned with the class that a teacher gave them"},
                    name,
                    value[-1]["rows_added"],
                    "",
                )
            )
        elif _is_news(name, value):
            lines.append(_by(compared_by, name, _line(_OF_DATA, name, value, "")))
    return lines


def _by(compared_by: str, name: str, line: str) -> str:
    """The sentence, in the word for what equal rows have in common, where it is of equal rows."""
    if compared_by == "text" or not (name in _OF_EQUAL_ROWS or name.startswith("removed_from_")):
        return line
    # Of rows with an equal image the others may stay, with other texts.
    line = line.replace("their text was there", "they were there").replace("its text was there", "it was there")
    return line.replace("text", compared_by)


def _is_news(name: str, count: Any) -> bool:
    if name in _SILENT or isinstance(count, bool):
        return False
    return isinstance(count, int) and count > 0


def _line(sentences: Mapping[str, str], name: str, value: Any, split: str) -> str:
    removed = re.fullmatch(r"removed_from_(\w+)_because_in_(\w+)", name)
    sentence = sentences.get(name)
    if removed is not None:
        sentence = f"{{}} rows of {removed[1]} were left out, since their text is in {removed[2]}"
    if sentence is None:
        return f"{name.replace('_', ' ')}{f' of {split}' if split else ''}: {value}"
    line = sentence.format(f"{value:,}", split=split)
    return _singular(line) if value == 1 else line


def _singular(line: str) -> str:
    for plural, singular in (
        ("1 rows hold", "1 row holds"),
        ("1 rows", "1 row"),
        ("1 texts hold", "1 text holds"),
        ("1 texts have copies with another label, so one of the two is wrong", "1 text has copies with another label"),
        ("1 texts are", "1 text is"),
        (" gave them", " gave it"),
        ("1 different texts", "1 different text"),
        ("1 different images", "1 different image"),
        ("1 texts", "1 text"),
        ("1 changed copies of training rows", "1 changed copy of a training row"),
        ("1 earlier training rows are", "1 earlier training row is"),
        ("1 copies of training rows", "1 copy of a training row"),
        ("1 changed copies of texts", "1 changed copy of texts"),
        ("1 copies of texts", "1 copy of texts"),
        ("gives them another class than the rows", "gives it another class than the row"),
        ("gives them another class than the texts", "gives it another class than the text"),
        (" in them has ", " in it has "),
        ("1 classes have", "1 class has"),
        ("1 words", "1 word"),
        ("1 questions", "1 question"),
        ("1 answers", "1 answer"),
        ("1 text without labels are", "1 text without a label is"),
        (" are compared", " is compared"),
        (" are whole", " is whole"),
        (" are not learned", " is not learned"),
        (" have no tokens", " has no tokens"),
        (" they have ", " it has "),
        (" they take ", " it takes "),
        (" on them", " on it"),
        (" learned them", " learned it"),
        (" seen them", " seen it"),
        (" written to them", " written to it"),
        ("1 prompts", "1 prompt"),
        ("1 earlier responses", "1 earlier response"),
        (" were ", " was "),
        (" their ", " its "),
        (" they do ", " it does "),
        (" are kept", " is kept"),
    ):
        line = line.replace(plural, singular, 1)
    return line


def _one_row(classes: Sequence[str]) -> str:
    shown = ", ".join(map(repr, classes[:FEW])) + (f" and {len(classes) - FEW} more" if len(classes) > FEW else "")
    if len(classes) == 1:
        return f"the class {shown} has one row only: it is learned from, and never measured"
    return f"{len(classes)} classes have one row only: they are learned from, and never measured: {shown}"

"""Splits: no leaks, nested, stratified, deterministic; and what bad tables get."""

import hashlib
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import datasets
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from peftlab.core.errors import ConfigError, DataError, SourceError
from peftlab.data.data_config import DataConfig
from peftlab.data.duplicates import text_key
from peftlab.data.ordering import draw_first, draw_share, random_order
from peftlab.data.row_rules import RowRules
from peftlab.data.splits import load_splits

SHARED = Path(__file__).parents[3] / "shared" / "data"


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        ("Good", " good\n", True),
        ("ﬁne", "FINE", True),
        ("Straße", "STRASSE", True),
        ("a\u00a0b", "A  B", True),
        ("ｈｉ", "HI", True),
        ("cafe\u0301", "CAFÉ", True),
        (["New", "York"], "new york", True),
        ("café", "cafe", False),
        ("a b", "ab", False),
        ("good!", "good", False),
    ],
)
def test_what_counts_as_the_same_text(one, other, equal):
    assert (text_key([one]) == text_key([other])) is equal
    assert text_key(["x", one]) != text_key([one, "x"])


def write_rows(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def by_label(split):
    return [str(label) for label in split.columns["label"]]


def load(source, *, seed=0, text=("text",), label=("label",), strata=by_label, **changes):
    return load_splits(
        DataConfig(source=source, **changes), RowRules(text_columns=text, label_columns=label, strata=strata), seed=seed
    )


def rows_of(split):
    return list(zip(split.index, split.columns["text"], split.columns["label"], strict=True))


ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "text": st.one_of(
                st.sampled_from(["Good", "good ", "GOOD", "ﬁne", "fine", "a  b", "A B", "ß", "SS"]),
                st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=3),
            ),
            "label": st.sampled_from("abc"),
        }
    ),
    min_size=6,
    max_size=60,
    unique_by=lambda row: str(row),
).filter(lambda rows: len({text_key([row["text"]]) for row in rows}) >= 6)
QUICK = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@QUICK
@given(rows=ROWS, seed=st.integers(0, 9), test=st.floats(0, 0.6), validation=st.floats(0, 0.6))
def test_no_text_is_in_two_splits_and_every_text_is_in_one(rows, seed, test, validation, tmp_path):
    rows = [*rows, {"text": "word", "label": "a"}]  # so that the column is not numbers only
    source = write_rows(tmp_path / "a.jsonl", rows)
    data = load(source, seed=seed, test_fraction=test, validation_fraction=validation)
    keys = [text_key([text]) for split in data.splits.values() for text in split.columns["text"]]
    assert len(keys) == len(set(keys))
    assert set(keys) == {text_key([row["text"]]) for row in rows}
    for split in data.splits.values():
        assert list(split.index) == sorted(split.index)
        for index, text, label in rows_of(split):
            assert {"text": text, "label": label} == rows[index]
            assert text_key([text]) not in {text_key([row["text"]]) for row in rows[:index]}
    assert data.summary.notes["duplicates_removed"] == len(rows) - len(keys)
    again = load(source, seed=seed, test_fraction=test, validation_fraction=validation)
    assert again.summary == data.summary
    assert ("test" in data.splits) == (test > 0)
    assert ("validation" in data.splits) == (validation > 0)


@QUICK
@given(rows=ROWS, small=st.integers(1, 60), more=st.integers(0, 60))
def test_a_smaller_cap_is_within_a_larger_one_and_the_other_splits_stay(rows, small, more, tmp_path):
    source = write_rows(tmp_path / "a.jsonl", [*rows, {"text": "word", "label": "a"}])
    less, larger = load(source, max_train_examples=small), load(source, max_train_examples=small + more)
    assert set(less.splits["train"].index) <= set(larger.splits["train"].index)
    assert len(less.splits["train"]) == min(small, len(load(source).splits["train"]))
    assert less.splits["test"] == larger.splits["test"]


STRATA = st.lists(st.sampled_from("aaaaaabbbcd"), min_size=2, max_size=80)


def order_of(strata, seed=0):
    return random_order([hashlib.blake2b(b"%d" % row, digest_size=16).digest() for row in range(len(strata))], seed)


@given(strata=STRATA, fraction=st.floats(0.01, 0.95), seed=st.integers(0, 5))
def test_shares_are_those_of_the_classes_and_no_class_is_taken_away(strata, fraction, seed):
    drawn = draw_share(order_of(strata, seed), strata, fraction, seed)
    sizes, taken = Counter(strata), Counter(strata[row] for row in drawn)
    assert len(drawn) == len(set(drawn)) >= 1
    if max(sizes.values()) == 1:
        return
    wanted = min(max(1, int(len(strata) * fraction + 0.5)), len(strata) - 1)
    room = sum(size - 1 for size in sizes.values())
    assert len(drawn) == min(wanted, room)
    for name, size in sizes.items():
        assert taken[name] < size
        exact = size * wanted / len(strata)
        if all(other * wanted / len(strata) + 1 <= other - 1 for other in sizes.values()):
            assert abs(taken[name] - exact) < 1


@given(strata=STRATA, count=st.integers(0, 80), seed=st.integers(0, 5))
def test_a_capped_split_has_the_classes_shares(strata, count, seed):
    drawn = draw_first(order_of(strata, seed), strata, count, seed)
    assert len(drawn) == min(count, len(strata))
    taken, sizes = Counter(strata[row] for row in drawn), Counter(strata)
    for name, size in sizes.items():
        assert abs(taken[name] - size * len(drawn) / len(strata)) < len(sizes)
    assert set(draw_first(order_of(strata, seed), strata, count // 2, seed)) <= set(drawn)


def test_classes_that_are_all_too_small_do_not_crash(tmp_path):
    source = write_rows(tmp_path / "a.jsonl", [{"text": f"t{row}", "label": str(row)} for row in range(10)])
    assert load(source).summary.rows == {"train": 7, "validation": 1, "test": 2}


def test_without_classes_the_shares_are_exact(tmp_path):
    source = write_rows(tmp_path / "a.jsonl", [{"text": f"t{row}", "label": row / 7} for row in range(100)])
    data = load(source, strata=lambda split: None)
    assert data.summary.rows == {"train": 72, "validation": 8, "test": 20}


def test_the_splits_are_the_same_on_every_machine(tmp_path):
    # Written down once: a change here changes the data of every recipe, and old records no longer reproduce.
    source = write_rows(tmp_path / "a.jsonl", [{"text": f"t{row}", "label": "ab"[row % 2]} for row in range(12)])
    splits = load(source, seed=7, max_train_examples=4).splits
    assert {name: list(split.index) for name, split in splits.items()} == {
        "train": [6, 7, 8, 9],
        "validation": [5],
        "test": [0, 3],
    }


@pytest.mark.parametrize("count", [60, 7])
def test_folds_share_no_row_and_hold_all_but_the_test_rows(count, tmp_path):
    source = write_rows(tmp_path / "r.jsonl", [{"text": f"t{n}", "label": "ab"[n % 3 == 0]} for n in range(count)])
    loaded = [load(source, fold={"number": number, "of": 3}).splits for number in (1, 2, 3)]
    folds = [set(splits["validation"].columns["text"]) for splits in loaded]
    rest = {
        text for splits in loaded for text in (*splits["train"].columns["text"], *splits["validation"].columns["text"])
    }
    assert set.union(*folds) == rest
    assert sum(map(len, folds)) == len(rest)
    assert max(map(len, folds)) - min(map(len, folds)) <= 1
    for splits, fold in zip(loaded, folds, strict=True):
        assert set(splits["train"].columns["text"]) == rest - fold
        assert list(splits["test"].index) == list(loaded[0]["test"].index)
    other = write_rows(tmp_path / "v.jsonl", [{"text": "v", "label": "a"}])
    with pytest.raises(ConfigError, match="validation split of its own"):
        load({"train": source, "validation": other}, fold={"number": 1, "of": 3})
    with pytest.raises(ValueError, match="there are 3"):
        DataConfig(source=source, fold={"number": 4, "of": 3})


def test_seeds_differ_and_split_seed_goes_first(tmp_path):
    source = write_rows(tmp_path / "a.jsonl", [{"text": f"t{row}", "label": "ab"[row % 2]} for row in range(60)])
    zero, one = load(source, seed=0), load(source, seed=1)
    assert zero.splits["test"].index != one.splits["test"].index
    assert load(source, seed=1, split_seed=0).summary == zero.summary


@pytest.mark.parametrize("limit", [{"max_train_examples": 6}, {"max_train_examples_per_class": 3}])
def test_a_draw_seed_draws_other_training_rows_of_the_same_splits(tmp_path, limit):
    source = write_rows(tmp_path / "a.jsonl", [{"text": f"t{row}", "label": "ab"[row % 2]} for row in range(60)])
    first, again, other = (load(source, draw_seed=seed, max_test_examples=5, **limit) for seed in (1, 1, 2))
    assert first.splits["train"].index == again.splits["train"].index != other.splits["train"].index
    assert len(first.splits["train"]) == len(other.splits["train"]) == 6
    for name in ("validation", "test"):
        assert first.splits[name].index == other.splits[name].index
    assert first.summary.fingerprint == other.summary.fingerprint, "the data are the same, and so runs are compared"


def test_a_draw_of_all_rows_is_no_draw(tmp_path):
    """Reports took it that each seed has rows of its own, and said that intervals hold for other rows too."""
    source = write_rows(tmp_path / "a.jsonl", [{"text": f"t{row}", "label": "ab"[row % 2]} for row in range(60)])
    for limit in ({"max_train_examples": 60}, {"max_train_examples_per_class": 30}):
        with pytest.raises(ConfigError, match=r"data\.draw_seed: all 43 training rows are learned"):
            load(source, draw_seed=1, **limit)


def test_the_fingerprint_tells_data_apart(tmp_path):
    rows = [{"text": f"t{row}", "label": "ab"[row % 2], "other": 1} for row in range(10)]
    first = load(write_rows(tmp_path / "a.jsonl", rows))
    unused = load(write_rows(tmp_path / "b.jsonl", [{**row, "other": 2} for row in rows]))
    changed = load(write_rows(tmp_path / "c.jsonl", [*rows[:-1], {**rows[-1], "text": "t9!"}]))
    assert len(first.summary.fingerprint) == 64
    assert first.summary.fingerprint == unused.summary.fingerprint != changed.summary.fingerprint
    assert set(first.splits["train"].columns) == {"text", "label"}


def test_conflicting_labels_are_counted_and_the_first_row_stays(tmp_path):
    rows = [{"text": text, "label": label} for text, label in [("Hi  there", 1), ("hi there", 0), ("HI THERE", 1)]]
    rows += [{"text": "x", "label": 1}, {"text": "X", "label": 1}, {"text": "y", "label": 0}]
    data = load(write_rows(tmp_path / "a.jsonl", rows), test_fraction=0, validation_fraction=0)
    assert rows_of(data.splits["train"]) == [(0, "Hi  there", 1), (3, "x", 1), (5, "y", 0)]
    assert data.summary.notes == {"conflicting_labels": 1, "duplicates_removed": 3, "classes_with_one_row": ["0"]}


def given_splits(tmp_path, **texts):
    rows = {name: [{"text": text, "label": "a"} for text in words.split()] for name, words in texts.items()}
    return {name: write_rows(tmp_path / f"{name}.jsonl", found) for name, found in rows.items()}


def test_given_test_rows_stay_and_their_texts_leave_the_others(tmp_path):
    source = given_splits(tmp_path, train="a B c c d", validation="b c e e", test="A x X")
    data = load(source)
    assert {name: list(split.columns["text"]) for name, split in data.splits.items()} == {
        "train": ["d"],
        "validation": ["b", "c", "e", "e"],
        "test": ["A", "x", "X"],
    }
    assert data.summary.notes == {
        "conflicting_labels": 0,
        "removed_from_validation_because_in_test": 0,
        "removed_from_train_because_in_test": 1,
        "removed_from_train_because_in_validation": 3,
        "duplicates_removed": 0,
    }
    assert list(data.splits["test"].index) == [0, 1, 2]


def test_only_the_splits_that_are_missing_are_cut(tmp_path):
    data = load(given_splits(tmp_path, train="a b c d e f g h i j", test="x y"))
    assert data.summary.rows == {"train": 9, "validation": 1, "test": 2}
    data = load(given_splits(tmp_path, train="a b c d e f g h i j", validation="x y"))
    assert data.summary.rows == {"train": 8, "validation": 2, "test": 2}


def test_without_deduplication_nothing_is_removed_and_leaks_are_counted(tmp_path):
    source = given_splits(tmp_path, train="a b b c", validation="b q", test="C a")
    data = load(source, deduplicate=False)
    assert data.summary.rows == {"train": 4, "validation": 2, "test": 2}
    assert data.summary.notes == {"conflicting_labels": 0, "texts_in_two_splits": 3}


def test_a_train_split_that_is_all_in_test_is_an_error(tmp_path):
    with pytest.raises(DataError, match="the train split is empty"):
        load(given_splits(tmp_path, train="a b", test="a b c"))


def test_one_row_cannot_be_split(tmp_path):
    with pytest.raises(DataError, match=r"1 row is too few to make a test split[^\n]*\n.*data.test_fraction: 0"):
        load(given_splits(tmp_path, train="a"))
    with pytest.raises(DataError, match="1 row is too few to make a validation split"):
        load(given_splits(tmp_path, train="a b"))
    assert load(given_splits(tmp_path, train="a b c")).summary.rows == {"train": 1, "validation": 1, "test": 1}
    answers = write_rows(
        tmp_path / "answers.jsonl", [{"text": "the question", "answer": f"so {at}"} for at in range(9)]
    )
    with pytest.raises(DataError, match="all 3 training rows hold the same in `text`, so they are copies"):
        load(given_splits(tmp_path, train="a A a"))
    rules = RowRules(["text"], [], source_columns=["text", "answer"], told_apart_by=["answer"])
    with pytest.raises(DataError, match="all 9 rows have one text, which is too little to make a test split"):
        load_splits(DataConfig(source=answers), rules, seed=0)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"txt": "a", "label": 1}], "there is no column `text`"),
        ([{"text": "a", "labels": 1}], "Did you mean `labels`"),
        ([{"text": "1", "label": 1}, {"text": "2.5", "label": 0}], "holds numbers only, the first is '1'"),
        (
            [{"text": "a", "label": 1}, {"text": 3, "label": 0}, {"text": 4, "label": 0}],
            "row 2: .*no text: 3 .and in",
        ),
        ([{"text": "a", "label": 1}, {"text": ["b", 3], "label": 0}], "row 2: .*no text"),
        (
            [{"text": "a", "label": 1}, {"text": None, "label": 0}],
            r"row 2: .*`text` is missing or empty\n.*data.drop_missing",
        ),
        (
            [{"text": "a", "label": 1}, {"text": "b"}],
            r"row 2: the column `label` is missing or empty\n.*data.drop_missing",
        ),
        ([{"text": "a", "label": None}, {"text": "b"}], "is missing in every row of the train split"),
        ([{"text": "a\ud800", "label": 1}], "row 1: .*surrogate"),
        ([{"text": "a", "label": [{"content": "\ud800"}]}], "row 1: the column `label` .*surrogate"),
    ],
)
def test_columns_that_cannot_be_used_name_the_row(rows, message, tmp_path):
    with pytest.raises(DataError, match=message):
        load(write_rows(tmp_path / "a.jsonl", rows))


def test_a_header_that_is_one_field_points_to_the_delimiter(tmp_path):
    (tmp_path / "a.csv").write_text("text~label\na~b\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"`data.delimiter`"):
        load(str(tmp_path / "a.csv"))


def test_missing_rows_are_dropped_and_counted_when_asked(tmp_path):
    (tmp_path / "a.csv").write_text("text,label,other\na,x,\n,x,1\nb,,1\nc,x,\n", encoding="utf-8")
    data = load(str(tmp_path / "a.csv"), drop_missing=True, test_fraction=0, validation_fraction=0)
    assert rows_of(data.splits["train"]) == [(0, "a", "x"), (3, "c", "x")]
    assert data.splits["train"].where(1) == "a.csv, row 4"
    assert data.summary.notes["rows_dropped_missing"] == 2
    (tmp_path / "c.csv").write_text("text,label\na,x\n  ,y\nb, \nc,x\n", encoding="utf-8")
    data = load(str(tmp_path / "c.csv"), drop_missing=True, test_fraction=0, validation_fraction=0)
    assert rows_of(data.splits["train"]) == [(0, "a", "x"), (3, "c", "x")]
    (tmp_path / "b.csv").write_text("text,label\n,x\n", encoding="utf-8")
    with pytest.raises(DataError, match="every row has a missing value"):
        load(str(tmp_path / "b.csv"), drop_missing=True)


def test_pairs_are_equal_only_where_both_texts_are(tmp_path):
    rows = [{"a": "x", "b": "y z", "label": 0}, {"a": "x y", "b": "z", "label": 0}, {"a": "X", "b": "Y  z", "label": 0}]
    data = load(write_rows(tmp_path / "a.jsonl", rows), text=("a", "b"), test_fraction=0, validation_fraction=0)
    assert list(data.splits["train"].index) == [0, 1]


def test_the_source_s_names_are_mapped(tmp_path):
    rows = {
        "train": [{"text": "a", "label": 1}],
        "dev": [{"text": "b", "label": 1}],
        "oos": [{"text": "c", "label": 2}],
    }
    (tmp_path / "a.json").write_text(json.dumps(rows), encoding="utf-8")
    source = str(tmp_path / "a.json")
    assert load(source, test_fraction=0).summary.rows == {"train": 1, "validation": 1}
    chosen = {"train": "dev", "test": "oos"}
    assert load(source, splits=chosen, validation_fraction=0).summary.rows == {"train": 1, "test": 1}
    with pytest.raises(ConfigError, match=r"data.splits.test: the source has no split `dve`\n  Did you mean `dev`"):
        load(source, splits={"train": "train", "test": "dve"})


def test_splits_without_a_train_split_are_an_error(tmp_path):
    for name in ("one", "two"):
        write_rows(tmp_path / f"{name}.jsonl", [{"text": "a", "label": 1}])
    with pytest.raises(DataError, match=r"none of the source's splits is called train: one, two\n.*data.splits"):
        load(str(tmp_path))


def test_relative_sources_start_at_the_folder_and_errors_name_the_key(tmp_path):
    write_rows(tmp_path / "a.jsonl", [{"text": "a", "label": 1}, {"text": "b", "label": 1}])
    config = DataConfig(source={"train": "a.jsonl", "test": "b.jsonl"})
    with pytest.raises(SourceError, match=r"data.source.test: no such file[^\n]*b.jsonl\n  Did you mean `a.jsonl`"):
        load_splits(config, RowRules(text_columns=["text"], label_columns=["label"]), seed=0, folder=tmp_path)


def test_keys_of_the_hub_are_refused_elsewhere(tmp_path):
    source = write_rows(tmp_path / "a.jsonl", [{"text": "a", "label": 1}])
    with pytest.raises(ConfigError, match=r"data.revision: this is for data sets of the Hub"):
        load(source, revision="main")


def test_torch_is_never_imported():
    code = "import sys, peftlab.data.splits, peftlab.data.batching, peftlab.data.hub; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data sets are not on this machine")
@pytest.mark.parametrize(
    ("options", "text", "label", "rows"),
    [
        ({"source": "sst2", "quoting": False}, "sentence", "label", (6909, 872, 1821)),
        ({"source": "trec", "quoting": False}, "question", "coarse", (4832, 537, 500)),
        ({"source": "banking77"}, "text", "category", (8993, 999, 3080)),
        (
            {"source": "clinc150/data_small.json", "column_names": ["text", "intent"]},
            "text",
            "intent",
            (7496, 3000, 4500),
        ),
        ({"source": "waimai/waimai_10k.csv"}, "review", "label", (8623, 958, 2395)),
    ],
)
def test_real_data_sets_load_and_do_not_leak(options, text, label, rows):
    data = load_splits(
        DataConfig(**options),
        RowRules(text_columns=[text], label_columns=[label], strata=lambda split: split.columns[label]),
        seed=0,
        folder=SHARED,
    )
    assert tuple(data.summary.rows[name] for name in ("train", "validation", "test")) == rows
    found = [{text_key([value]) for value in split.columns[text]} for split in data.splits.values()]
    assert sum(map(len, found)) == len(set().union(*found))


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data sets are not on this machine")
def test_real_entities_load():
    source = {"train": "wnut17train.conll", "validation": "emerging.dev.conll", "test": "emerging.test.annotated"}
    data = load_splits(
        DataConfig(source=source, format="conll"),
        RowRules(text_columns=["tokens"], label_columns=["tags"]),
        seed=0,
        folder=SHARED / "wnut17",
    )
    assert data.summary.rows == {"train": 3291, "validation": 1009, "test": 1287}
    assert {tag for tags in data.splits["train"].columns["tags"] for tag in tags} >= {"O", "B-person", "I-person"}


def test_named_rows_alone_are_trained_on(tmp_path):
    source = write_rows(tmp_path / "rows.jsonl", [{"text": f"text {at}", "label": "ab"[at % 2]} for at in range(40)])
    everything = load(source)
    train = everything.splits["train"].index
    wanted = [train[9], train[0], train[3]]
    chosen = load(source, train_rows=wanted)
    assert chosen.splits["train"].index == sorted(wanted)
    assert chosen.splits["train"].columns["text"] == [f"text {row}" for row in sorted(wanted)]
    assert chosen.splits["test"] == everything.splits["test"]
    assert chosen.summary.rows["train"] == 3
    assert chosen.summary.fingerprint == everything.summary.fingerprint  # runs on parts of one table are compared
    capped = load(source, train_rows=wanted, max_train_examples=2)
    assert set(capped.splits["train"].index) < set(wanted)
    assert capped.summary.fingerprint == everything.summary.fingerprint


def test_rows_that_cannot_be_trained_on_are_refused(tmp_path):
    source = write_rows(tmp_path / "rows.jsonl", [{"text": f"text {at}", "label": "ab"[at % 2]} for at in range(40)])
    tested = load(source).splits["test"].index[0]
    with pytest.raises(DataError, match=f"row {tested} is not in the training split") as caught:
        load(source, train_rows=[tested])
    assert caught.value.where == "data.train_rows"
    with pytest.raises(ValueError, match="row 3 is named twice"):
        DataConfig(source=source, train_rows=[3, 4, 3])


def test_a_class_that_no_named_row_has_is_told(tmp_path):
    source = write_rows(tmp_path / "rows.jsonl", [{"text": f"text {at}", "label": "ab"[at % 2]} for at in range(40)])
    train = load(source).splits["train"]
    only_a = [row for row, label in zip(train.index, train.columns["label"], strict=True) if label == "a"]
    rules = RowRules(
        text_columns=("text",), label_columns=("label",), strata=by_label, classes=lambda split: set(by_label(split))
    )
    data = load_splits(DataConfig(source=source, train_rows=only_a), rules, seed=0)
    assert data.lost_classes == {"b": "data.train_rows"}


@pytest.mark.parametrize(
    "key",
    [{"quoting": False}, {"header": False}, {"delimiter": ";"}, {"escape": "/"}, {"sheet": "a"}, {"decimal": ","}],
)
def test_a_key_that_says_nothing_of_the_source_is_refused(key, tmp_path):
    rows = [{"text": f"text {number}", "label": "ab"[number % 2]} for number in range(20)]
    source = write_rows(tmp_path / "rows.jsonl", rows)
    with pytest.raises(ConfigError, match=rf"^data\.{next(iter(key))}: .*no effect"):
        load(source, **key)


def test_a_format_says_nothing_of_a_saved_data_set(tmp_path):
    rows = {"text": [f"text {number}" for number in range(20)], "label": ["a", "b"] * 10}
    datasets.Dataset.from_dict(rows).save_to_disk(tmp_path / "saved")
    with pytest.raises(ConfigError, match=r"^data\.format: this is the format of a file.*no effect"):
        load(str(tmp_path / "saved"), format="csv")


def test_a_key_that_says_something_of_one_of_the_files_is_taken(tmp_path):
    rows = [{"text": f"text {number}", "label": "ab"[number % 2]} for number in range(20)]
    source = {"train": write_rows(tmp_path / "train.jsonl", rows), "test": str(tmp_path / "test.csv")}
    (tmp_path / "test.csv").write_text("text;label\nnew, a;a\nnew, b;b\n", encoding="utf-8")
    assert len(load(source, delimiter=";", header=True).splits["test"]) == 2
    (tmp_path / "more.csv").write_text("text;label\nof no class;\n", encoding="utf-8")
    source = {"train": source["train"], "unlabeled": str(tmp_path / "more.csv")}
    assert load(source, delimiter=";").unlabeled.columns["text"] == ["of no class"]


def test_each_text_is_hashed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[Any] = []
    monkeypatch.setattr("peftlab.data.row_rules.text_key", lambda texts: hashed.append(texts) or text_key(texts))
    (tmp_path / "rows.csv").write_text("text,label\n" + "".join(f"text {at % 50},{at % 2}\n" for at in range(60)))
    config = DataConfig(
        source=str(tmp_path / "rows.csv"), test_fraction=0.2, validation_fraction=0.2, max_train_examples=20
    )
    loaded = load_splits(config, RowRules(text_columns=["text"], label_columns=["label"]), seed=0)
    assert {name: len(split) for name, split in loaded.splits.items()} == {"train": 20, "validation": 8, "test": 10}
    assert len(hashed) == len(set(hashed)) == 50

"""Text files and dialogues as rows; delimiters of several characters."""

from __future__ import annotations

import gzip
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peftlab.core.errors import DataError
from peftlab.data.columns import take
from peftlab.data.data_config import DataConfig
from peftlab.data.dialogue import parse_conversations
from peftlab.data.row_rules import RowRules
from peftlab.data.splits import load_splits
from peftlab.data.table_files import TableFile
from peftlab.data.tables import read_table, read_tables
from peftlab.data.text_files import TextRows, read_text_rows


def config(source: Path, **keys) -> DataConfig:
    return DataConfig(source=str(source), **keys)


def test_rows_are_paragraphs_and_lines_where_there_is_only_one(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes("\ufeffOne\r\ntwo.\r\n\r\n \r\nThrée\n\n\nfour".encode())
    assert list(read_text_rows(TableFile(file), "utf-8")) == ["One\ntwo.", "Thrée", "four"]
    file.write_text("one\ntwo\nthree\n")
    assert list(read_text_rows(TableFile(file), "utf-8")) == ["one", "two", "three"]
    file.write_text("one\n\n\ntwo", encoding="utf-16")
    assert list(read_text_rows(TableFile(file), "utf-16")) == ["one", "two"]


@pytest.mark.parametrize(
    "text", ["\ufeffOne\r\ntwo.\r\n\r\n \r\nThr\u00e9e\r\n", "one\u00a0\r\n two\r\n", "a\n\u00a0\nb\n\n\u00a0"]
)
def test_a_packed_file_has_the_rows_of_the_unpacked_one(tmp_path: Path, text: str) -> None:
    plain, packed, wide = tmp_path / "a.txt", tmp_path / "a.txt.gz", tmp_path / "wide.txt"
    plain.write_bytes(text.encode())
    packed.write_bytes(gzip.compress(text.encode()))
    wide.write_bytes(text.removeprefix("\ufeff").encode("utf-16"))
    expected = list(read_text_rows(TableFile(plain), "utf-8"))
    assert list(read_text_rows(TableFile(packed), "utf-8")) == expected
    assert list(read_text_rows(TableFile(wide), "utf-16")) == expected


def test_many_files_are_joined_in_one_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for at in range(30):
        (tmp_path / f"{at:02}.txt").write_text(f"first of {at}\n\nsecond of {at}")
    asked: list[int] = []
    place = TextRows._place
    monkeypatch.setattr(TextRows, "_place", lambda self, row: asked.append(row) or place(self, row))
    (table,) = read_tables(tmp_path, config(tmp_path)).values()
    assert len(table) == len(asked) == 60
    assert table.columns["text"][59] == "second of 29"


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(st.characters(blacklist_categories=["Cs", "Cc", "Z"]), min_size=1), min_size=2, max_size=8))
def test_any_paragraphs_are_read_back(tmp_path_factory, paragraphs: list[str]) -> None:
    file = tmp_path_factory.mktemp("text") / "a.txt"
    file.write_text("\n\n".join(paragraphs), encoding="utf-8", newline="")
    expected = [text.strip("\ufeff") for text in paragraphs]
    if all(expected):
        assert list(read_text_rows(TableFile(file), "utf-8")) == expected


def test_rows_stay_on_disk_through_splits(tmp_path: Path) -> None:
    (tmp_path / "corpus").mkdir()
    for name in ("a", "b"):
        text = "\n\n".join(f"{name} paragraph {number}" for number in range(30))
        (tmp_path / "corpus" / f"{name}.txt").write_text(text)
    (table,) = read_tables(tmp_path / "corpus", config(tmp_path)).values()
    assert len(table) == 60
    assert table.columns["text"][35] == "b paragraph 5"
    loaded = load_splits(config(tmp_path / "corpus"), RowRules(text_columns=["text"], label_columns=[]), seed=0)
    assert {name: len(split) for name, split in loaded.splits.items()} == {"train": 43, "validation": 5, "test": 12}
    for split in loaded.splits.values():
        assert isinstance(split.columns["text"], TextRows)
        assert list(take(split, [1, 0]).columns["text"]) == [split.columns["text"][1], split.columns["text"][0]]
    everything = [text for split in loaded.splits.values() for text in split.columns["text"]]
    assert len(set(everything)) == 60


def test_a_wrong_encoding_and_an_empty_file_are_told(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes("one\n\ncafé".encode("latin-1"))
    with pytest.raises(DataError, match=r"\(line 3\) is not utf-8"):
        read_text_rows(TableFile(file), "utf-8")
    file.write_text("\n \n")
    with pytest.raises(DataError, match="empty"):
        read_text_rows(TableFile(file), "utf-8")
    file.write_bytes("one\ntwo\n".encode("utf-16-le"))
    with pytest.raises(DataError, match=r"line 1: the line holds a NUL character"):
        read_text_rows(TableFile(file), "utf-8")


def test_lines_that_end_with_a_carriage_return_alone(tmp_path: Path) -> None:
    text, tagged = tmp_path / "a.txt", tmp_path / "a.conll"
    text.write_bytes(b"one\rtwo\rthree\r")
    assert list(read_text_rows(TableFile(text), "utf-8")) == ["one", "two", "three"]
    text.write_bytes(b"one\rtwo\r\rthree\r")
    assert list(read_text_rows(TableFile(text), "utf-8")) == ["one\ntwo", "three"]
    tagged.write_bytes(b"a O\rb B-X\r\rc O\r")
    assert read_table(tagged, config(tagged)).columns == {"tokens": [["a", "b"], ["c"]], "tags": [["O", "B-X"], ["O"]]}


def test_a_split_of_text_files_may_lose_all_of_its_rows(tmp_path: Path) -> None:
    for name in ("train", "validation", "test"):
        (tmp_path / f"{name}.txt").write_text("one\n\ntwo" + "\n\nthree" * (name == "train"))
    with pytest.raises(DataError, match="the validation split is empty: all of its texts are in another split too"):
        load_splits(config(tmp_path), RowRules(("text",), ()), seed=0)
    rows = read_text_rows(TableFile(tmp_path / "train.txt"), "utf-8")
    assert isinstance(rows, TextRows)
    assert list(rows.take([])) == []


def test_a_file_is_opened_once_for_all_of_its_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.txt").write_text("\n\n".join(f"row {at}" for at in range(50)))
    rows = read_text_rows(TableFile(tmp_path / "a.txt"), "utf-8")
    opened: list[Path] = []
    plain = Path.open
    monkeypatch.setattr(Path, "open", lambda self, *how: opened.append(self) or plain(self, *how))
    assert list(rows) == rows[:] == [f"row {at}" for at in range(50)]
    assert len(opened) == 2


def test_a_folders_notes_are_no_rows(tmp_path: Path) -> None:
    (tmp_path / "README.txt").write_text("Where this comes from.")
    (tmp_path / "a.txt").write_text("one\n\ntwo")
    (tmp_path / "b.txt").write_text("three\n\nfour")
    assert list(read_tables(tmp_path, config(tmp_path))[""].columns["text"]) == ["one", "two", "three", "four"]
    (tmp_path / "a.txt").unlink()
    (tmp_path / "b.txt").unlink()
    assert list(read_tables(tmp_path, config(tmp_path))[""].columns["text"]) == ["Where this comes from."]
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("readme.txt", "Where this comes from.")
        archive.writestr("rows.csv", "text\none\n")
    assert {name: len(table) for name, table in read_tables(tmp_path / "a.zip", config(tmp_path)).items()} == {
        "rows": 1
    }


def test_dialogues(tmp_path: Path) -> None:
    file = tmp_path / "talk.yml"
    file.write_text(
        "categories: [x]\nconversations:\n- - Hi\n  - Hello\n  - How?\n- - Year?\n  - 1963\n- - alone\n- bare\n"
    )
    table = read_table(file, config(file))
    assert table.columns["conversations"] == [["Hi", "Hello"], ["Year?", "1963"]]
    with pytest.raises(DataError, match="not YAML"):
        parse_conversations("conversations: " + "[" * 5000, where="talk.yml")
    assert parse_conversations("conversations:\n- - Note: yes\n  -\n", where="x") == [["Note: yes", ""]]
    with pytest.raises(DataError, match=r"talk.yml, conversation 1: what is said is no text"):
        parse_conversations("conversations:\n- - [a, b]\n  - c\n", where="talk.yml")
    with pytest.raises(DataError, match="no list of lists under the key"):
        parse_conversations("a: 1", where="talk.yml")
    with pytest.raises(DataError, match=r"not YAML.*"):
        parse_conversations("a: [1", where="talk.yml")


def test_a_delimiter_of_several_characters(tmp_path: Path) -> None:
    file = tmp_path / "e2e.csv"
    file.write_text('name : A | eat : "x"||A is "x"\nname : B||B\n')
    table = read_table(file, config(file, delimiter="||", quoting=False, column_names=["mr", "text"]))
    assert table.columns == {"mr": ['name : A | eat : "x"', "name : B"], "text": ['A is "x"', "B"]}
    with pytest.raises(DataError, match="line 2"):
        read_table(file, config(file, delimiter="| ", quoting=False, column_names=["mr", "text"]))
    with pytest.raises(ValueError, match="quoting: false"):
        config(file, delimiter="||")

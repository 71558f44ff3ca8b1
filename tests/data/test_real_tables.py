"""Tables as people have them: other delimiters, packed, from Excel, in folders, wrapped, nested, without a header."""

import bz2
import csv
import gzip
import io
import json
import lzma
import tarfile
import zipfile

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from peftlab.core.errors import DataError, SourceError
from peftlab.data.data_config import DataConfig
from peftlab.data.delimited import parse_delimited, stream_delimited
from peftlab.data.dialects import Dialect
from peftlab.data.sources import load_tables
from peftlab.data.streaming import splits_of, stream_file

ROWS = [("good; really", "pos"), ("it's, well, bad", "neg"), ("naïve café", "pos"), ("so | so", "neg")]


def read_both_ways(path, columns=("text", "label"), **options):
    """The rows that training reads, after checking that `predict` reads the same ones."""
    config = DataConfig(source=str(path), **options)
    table = load_tables(config, keep=columns)["train"]
    from peftlab.data.columns import split_of_table

    split = split_of_table("train", table, columns)
    trained = list(zip(*(split.columns[column] for column in columns), strict=True))
    stream = stream_file(path, config, keep=columns)
    streamed = [
        row
        for part, _ in splits_of(stream, columns[:1], columns[1:])
        for row in zip(*(part.columns[column] for column in columns), strict=True)
    ]
    assert streamed == trained
    return trained


def csv_of(delimiter, rows=ROWS, header=("text", "label"), quote=True):
    def field(value):
        return f'"{value}"' if quote and delimiter in value else value

    return "".join(delimiter.join(map(field, row)) + "\n" for row in [header, *rows] if row)


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
def test_the_delimiter_is_found(name, delimiter, tmp_path):
    (tmp_path / name).write_text("\ufeff" + csv_of(delimiter), encoding="utf-8")
    assert read_both_ways(tmp_path / name) == ROWS


def test_between_two_readings_the_wanted_columns_decide(tmp_path):
    rows = [("red, green", "a"), ("blue, brown", "b"), ("pink, white", "a")]
    (tmp_path / "a.csv").write_text("text, long;label\n" + "".join(f"{text};{label}\n" for text, label in rows))
    assert read_both_ways(tmp_path / "a.csv", ("text, long", "label")) == rows


@pytest.mark.parametrize("options", [{"header": False}, {"column_names": ["column_1", "column_2", "column_3"]}])
@pytest.mark.parametrize("quote", ['"', ""])
def test_without_a_header_commas_in_a_semicolon_file_are_no_delimiters(options, quote, tmp_path):
    rows = [(f"fine, number {row}, and so on", f"{row},50") for row in range(5)]
    text = "".join(f"{row};{quote}{text}{quote};{price}\n" for row, (text, price) in enumerate(rows))
    (tmp_path / "a.csv").write_text(text)
    assert read_both_ways(tmp_path / "a.csv", ("column_2", "column_3"), **options) == rows


def test_a_comma_file_whose_texts_hold_semicolons_stays_one(tmp_path):
    rows = [("a; b; c", "x"), ("d; e; f", "y")]
    (tmp_path / "a.csv").write_text("text,label\na; b; c,x\nd; e; f,y\n")
    assert read_both_ways(tmp_path / "a.csv") == rows


def test_a_broken_line_of_a_semicolon_file_is_named(tmp_path):
    (tmp_path / "a.csv").write_text("text;label\na;x\nb;y;z\nc;x\n")
    with pytest.raises(DataError, match=r"a.csv, line 3: 3 fields where the header has 2"):
        read_both_ways(tmp_path / "a.csv")


def test_excel_s_line_that_names_the_delimiter_is_no_row(tmp_path):
    (tmp_path / "a.csv").write_text("sep=|\r\ntext|label\r\na,b|x\r\nc,d|y\r\n")
    assert read_both_ways(tmp_path / "a.csv") == [("a,b", "x"), ("c,d", "y")]


def test_blanks_before_quoted_fields_are_no_part_of_them(tmp_path):
    (tmp_path / "a.csv").write_text('text, label\n"one, two", "x"\n"three", "y ""z"""\n')
    for options in ({}, {"delimiter": ","}):
        config = DataConfig(source=str(tmp_path / "a.csv"), **options)
        table = load_tables(config)["train"]
        assert dict(table.columns) == {"text": ["one, two", "three"], "label": ["x", 'y "z"']}
        ((streamed, _),) = stream_file(tmp_path / "a.csv", config, keep=["text", "label"]).chunks
        assert dict(streamed.columns) == dict(table.columns)
    (tmp_path / "b.csv").write_text('text,label\nhe said: "so",x\nand, "x"\n')
    assert list(load_tables(DataConfig(source=str(tmp_path / "b.csv")))["train"].columns["text"]) == [
        'he said: "so"',
        "and",
    ]


def test_how_a_file_was_read_is_said(tmp_path):
    (tmp_path / "a.csv").write_text(csv_of(";"))
    said = []
    load_tables(DataConfig(source=str(tmp_path / "a.csv")), report=said.append)
    assert said == ["a.csv: read with semicolons between the fields"]


BACKSLASHES = [('He said "it was bad, really"', "bad"), ("C:\\new, good", "good"), ('"quoted"', "good"), ("a\\", "bad")]


@pytest.mark.parametrize("delimiter", [",", ";"])
@pytest.mark.parametrize("before", [0, 400])
def test_quotes_escaped_by_a_backslash(delimiter, before, tmp_path):
    plain = [(f"plain {row}", "good") for row in range(before)]
    text = csv_of(delimiter, plain)
    for value, label in BACKSLASHES:
        escaped = value.replace('"', '\\"')
        escaped = escaped[:-1] + "\\\\" if escaped.endswith("\\") else escaped
        text += f'"{escaped}"{delimiter}{label}\n'
    (tmp_path / "a.csv").write_text(text)
    if before:  # a stream cannot go back: it must be told
        with pytest.raises(DataError, match=r"data.escape"):
            list(splits_of(stream_file(tmp_path / "a.csv", DataConfig(source="x"), keep=["text"]), ["text"], []))
        assert read_both_ways(tmp_path / "a.csv", escape="\\")[before:] == BACKSLASHES
    else:
        assert read_both_ways(tmp_path / "a.csv") == BACKSLASHES


def test_backslashes_of_an_ordinary_file_stay(tmp_path):
    rows = [('C:\\"', "x"), ("a\\b", "y"), ('say ""', "x")]
    (tmp_path / "a.csv").write_text('text,label\n"C:\\""",x\na\\b,y\n"say """"",x\n')
    assert read_both_ways(tmp_path / "a.csv") == rows


def test_without_quoting_the_hint_names_the_escape(tmp_path):
    (tmp_path / "a.csv").write_text('text,label\n"a \\"b, c\\"",x\n')
    with pytest.raises(DataError, match=r"data\.escape"):
        read_both_ways(tmp_path / "a.csv", quoting=False)


def zipped(name, data):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("__MACOSX/._" + name, b"junk")
        archive.writestr(name, data)
    return file.getvalue()


PACKERS = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": lambda data: pa.compress(data, codec="zstd", asbytes=True),
    ".zip": lambda data: zipped("a.csv", data),
}


@pytest.mark.parametrize("ending", PACKERS)
def test_packed_files_are_read(ending, tmp_path):
    path = tmp_path / f"a.csv{ending}"
    path.write_bytes(PACKERS[ending](csv_of(";").encode()))
    assert read_both_ways(path) == ROWS
    two = PACKERS[ending](csv_of(",", ROWS[:2]).encode()) + PACKERS[ending](csv_of(",", ROWS[2:], ()).encode())
    if ending != ".zip":  # streams one after the other are one file
        path.write_bytes(two)
        assert read_both_ways(path) == ROWS


@pytest.mark.parametrize("ending", [".gz", ".bz2", ".xz", ".zst"])
def test_packed_lines_and_columns_are_read(ending, tmp_path):
    lines = "".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in ROWS)
    (tmp_path / f"a.jsonl{ending}").write_bytes(PACKERS[ending](lines.encode()))
    assert read_both_ways(tmp_path / f"a.jsonl{ending}") == ROWS
    file = io.BytesIO()
    pq.write_table(pa.table({"text": [row[0] for row in ROWS], "label": [row[1] for row in ROWS]}), file)
    (tmp_path / f"a.parquet{ending}").write_bytes(PACKERS[ending](file.getvalue()))
    assert read_both_ways(tmp_path / f"a.parquet{ending}") == ROWS


def test_a_packed_file_is_known_by_its_bytes(tmp_path):
    (tmp_path / "a.csv").write_bytes(gzip.compress(csv_of(",").encode()))
    assert read_both_ways(tmp_path / "a.csv") == ROWS


@pytest.mark.parametrize("ending", [".gz", ".bz2", ".xz", ".zst", ".zip"])
def test_a_file_that_would_unpack_without_end_is_refused(ending, tmp_path, monkeypatch):
    monkeypatch.setattr("peftlab.data.wheels._ALWAYS_ALLOWED_BYTES", 2**20)
    path = tmp_path / f"a.csv{ending}"
    path.write_bytes(PACKERS[ending](b"text,label\n" + b"a,b\n" * 2**20))
    for read in (
        lambda: load_tables(DataConfig(source=str(path))),
        lambda: list(stream_file(path, DataConfig(source="x"), keep=["text"]).chunks),
    ):
        with pytest.raises(DataError, match=r"would unpack to more than"):
            read()


@pytest.mark.parametrize("ending", [".gz", ".bz2", ".xz", ".zst", ".zip"])
def test_a_packed_file_that_is_cut_off_is_damaged(ending, tmp_path):
    path = tmp_path / f"a.csv{ending}"
    rows = [(f"text {row} {hash(str(row))}", "x") for row in range(2000)]
    path.write_bytes(PACKERS[ending](csv_of(",", rows).encode())[:-40])
    with pytest.raises(DataError, match=r"damaged"):
        load_tables(DataConfig(source=str(path)))


def test_an_archive_s_files_are_splits(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("data/train.csv", csv_of(","))
        archive.writestr("data/test.csv", csv_of(";", ROWS[:1]))
        archive.writestr("data/README.txt", "words")
    tables = load_tables(DataConfig(source=str(tmp_path / "a.zip")))
    assert {name: len(table) for name, table in tables.items()} == {"train": 4, "test": 1}
    with pytest.raises(DataError, match=r"the archive holds 3 files"):
        stream_file(tmp_path / "a.zip", DataConfig(source="x"), keep=["text"])


BINARY = {
    "xls": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0\x01" * 300,
    "sqlite": b"SQLite format 3\x00" + b"\0" * 100,
    "pdf": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n",
    "lz4": b"\x04\x22\x4d\x18\x64\x40abc",
    "png": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
}


@pytest.mark.parametrize("kind", BINARY)
@pytest.mark.parametrize("options", [{}, {"format": "csv"}, {"format": "jsonl"}, {"format": "text"}])
def test_no_encoding_is_proposed_for_another_type_of_file(kind, options, tmp_path):
    (tmp_path / "a.csv").write_bytes(BINARY[kind])
    for read in (
        lambda: load_tables(DataConfig(source=str(tmp_path / "a.csv"), **options)),
        lambda: list(stream_file(tmp_path / "a.csv", DataConfig(source="x", **options), keep=["text"]).chunks),
    ):
        with pytest.raises(DataError, match=r"of the type") as caught:
            read()
        assert "encoding" not in str(caught.value)


def test_what_is_no_table_is_named_whatever_its_ending(tmp_path):
    (tmp_path / "a.pkl").write_bytes(b"\x80\x04abc")
    with pytest.raises(DataError, match=r"of the type pickle, not a table\n.*never loads pickle files"):
        load_tables(DataConfig(source=str(tmp_path / "a.pkl")))


def test_a_path_that_leads_nowhere_says_why(tmp_path):
    (tmp_path / "a.csv").symlink_to("gone.csv")
    with pytest.raises(SourceError, match=r"no such file[^\n]*\n.*a link to gone.csv, and nothing is there"):
        load_tables(DataConfig(source=str(tmp_path / "a.csv")))
    with pytest.raises(SourceError, match=r"no such file[^\n]*\n.*Patterns are not looked for"):
        load_tables(DataConfig(source=str(tmp_path / "*.csv")))


def test_the_mark_at_the_beginning_tells_the_encoding(tmp_path):
    for encoding in ("utf-16", "utf-32"):
        (tmp_path / "a.csv").write_text("text,label\na,b\n", encoding=encoding)
        for read in (
            lambda: load_tables(DataConfig(source=str(tmp_path / "a.csv"))),
            lambda: list(stream_file(tmp_path / "a.csv", DataConfig(source="x"), keep=["text"]).chunks),
        ):
            with pytest.raises(DataError, match=encoding):
                read()


def test_folders_that_are_called_like_splits_hold_one_table_each(tmp_path):
    for split, rows in {"train": ROWS, "test": ROWS[:1]}.items():
        (tmp_path / split).mkdir()
        (tmp_path / split / "0000.csv").write_text(csv_of(",", rows))
    (tmp_path / "train" / "0001.csv").write_text(csv_of(",", ROWS[:2]))
    tables = load_tables(DataConfig(source=str(tmp_path)))
    assert {name: len(table) for name, table in tables.items()} == {"train": len(ROWS) + 2, "test": 1}
    (tmp_path / "train" / "more.csv").write_text(csv_of(",", ROWS))
    (tmp_path / "train" / "other.csv").write_text(csv_of(",", ROWS))
    with pytest.raises(DataError, match=r"several tables"):
        load_tables(DataConfig(source=str(tmp_path)))
    (tmp_path / "deep" / "label=a").mkdir(parents=True)
    with pytest.raises(DataError, match=r"holds no tables\n.*Its folders are called label=a"):
        load_tables(DataConfig(source=str(tmp_path / "deep")))


def test_two_files_of_one_name_are_not_put_together(tmp_path):
    """They are most likely the same rows in two formats, and would count twice."""
    (tmp_path / "train.csv").write_text(csv_of(","))
    (tmp_path / "train.tsv").write_text(csv_of("\t"))
    with pytest.raises(DataError, match=r"two files are called train: train.csv, train.tsv"):
        load_tables(DataConfig(source=str(tmp_path)))


def test_a_tar_archive_is_named(tmp_path):
    (tmp_path / "a.csv").write_text("text,label\na,b\n")
    with tarfile.open(tmp_path / "b.csv.gz", "w:gz") as archive:
        archive.add(tmp_path / "a.csv", "a.csv")
    with pytest.raises(DataError, match=r"tar archive"):
        load_tables(DataConfig(source=str(tmp_path / "b.csv.gz")))


def workbook(path, **sheets):
    book = openpyxl.Workbook()
    book.remove(book.active)
    for name, rows in sheets.items():
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(row)
    book.save(path)


def test_excel_files_are_read_as_excel_would_export_them(tmp_path):
    rows = [["text", "label", None], ["good", 7, None], [], [2012, 7.0, None], ["bad", 0.5, None], ["yes", True, None]]
    workbook(tmp_path / "a.xlsx", Reviews=rows, Empty=[])
    expected = [("good", "7"), ("2012", "7"), ("bad", "0.5"), ("yes", "TRUE")]
    assert read_both_ways(tmp_path / "a.xlsx") == expected
    (tmp_path / "a.xlsx.gz").write_bytes(gzip.compress((tmp_path / "a.xlsx").read_bytes()))
    assert read_both_ways(tmp_path / "a.xlsx.gz") == expected
    (tmp_path / "a.csv").write_bytes((tmp_path / "a.xlsx").read_bytes())
    with pytest.raises(DataError, match=r"data.format: xlsx"):
        read_both_ways(tmp_path / "a.csv")
    assert read_both_ways(tmp_path / "a.csv", format="xlsx") == expected


def test_the_sheet_is_chosen_or_asked_for(tmp_path):
    table = [["text", "label"], ["a", "x"], ["b", "y"]]
    workbook(tmp_path / "a.xlsx", Notes=[["by me"]], Reviews=table)
    with pytest.raises(DataError, match=r"2 sheets: Notes, Reviews[\s\S]*data.sheet"):
        read_both_ways(tmp_path / "a.xlsx")
    assert read_both_ways(tmp_path / "a.xlsx", sheet="Reviews") == [("a", "x"), ("b", "y")]
    with pytest.raises(DataError, match=r"no sheet `Review`[\s\S]*`Reviews`"):
        read_both_ways(tmp_path / "a.xlsx", sheet="Review")
    workbook(tmp_path / "b.xlsx", train=table, test=table[:2])
    tables = load_tables(DataConfig(source=str(tmp_path / "b.xlsx")))
    assert {name: len(part) for name, part in tables.items()} == {"train": 2, "test": 1}


def test_a_workbook_that_is_none_or_a_bomb_is_refused(tmp_path, monkeypatch):
    (tmp_path / "a.xlsx").write_text("text,label\na,b\n")
    with pytest.raises(DataError, match=r"not an Excel workbook"):
        read_both_ways(tmp_path / "a.xlsx")
    workbook(tmp_path / "whole.xlsx", a=[["text", "label"], *[[f"text {at}", at] for at in range(200)]])
    for member, damage in (
        ("xl/worksheets/sheet1.xml", lambda data: data[: len(data) // 2]),
        ("xl/worksheets/sheet1.xml", lambda data: data.replace(b"<v>190</v>", b"<v>?</v>")),
        ("xl/workbook.xml", lambda data: data[: len(data) // 2]),
    ):
        with zipfile.ZipFile(tmp_path / "whole.xlsx") as whole, zipfile.ZipFile(tmp_path / "bad.xlsx", "w") as bad:
            for name in whole.namelist():
                bad.writestr(name, damage(whole.read(name)) if name == member else whole.read(name))
        for read in (
            lambda: load_tables(DataConfig(source=str(tmp_path / "bad.xlsx"))),
            lambda: list(stream_file(tmp_path / "bad.xlsx", DataConfig(source="x"), keep=["text"]).chunks),
        ):
            with pytest.raises(DataError, match=r"bad.xlsx: not an Excel workbook"):
                read()
    monkeypatch.setattr("peftlab.data.wheels._ALWAYS_ALLOWED_BYTES", 2**10)
    monkeypatch.setattr("peftlab.data.wheels._LARGEST_RATIO", 2)
    workbook(tmp_path / "b.xlsx", a=[["text", "label"], *[["a" * 2000, "x"]] * 500])
    with pytest.raises(DataError, match=r"would unpack to"):
        read_both_ways(tmp_path / "b.xlsx")


def test_files_without_a_header_have_columns_by_position(tmp_path):
    (tmp_path / "a.csv").write_text(csv_of(",", ROWS, ()))
    assert read_both_ways(tmp_path / "a.csv", ("column_1", "column_2"), header=False) == ROWS
    with pytest.raises(DataError, match=r"`data.header: false`"):
        read_both_ways(tmp_path / "a.csv", ("column_1", "column_2"))
    workbook(tmp_path / "a.xlsx", a=ROWS)
    assert read_both_ways(tmp_path / "a.xlsx", ("column_1", "column_2"), header=False) == ROWS
    assert read_both_ways(tmp_path / "a.xlsx", column_names=["text", "label"]) == ROWS


@pytest.fixture
def saved(tmp_path):
    import datasets

    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["neg", "pos"])})
    columns = {"text": [row[0] for row in ROWS], "label": [row[1] for row in ROWS]}
    data = datasets.Dataset.from_dict(columns, features=features)
    data.save_to_disk(tmp_path / "one")
    datasets.DatasetDict(train=data, test=data.select([0])).save_to_disk(tmp_path / "two")
    return tmp_path


def test_saved_data_sets_are_read(saved):
    assert read_both_ways(saved / "one") == ROWS
    assert read_both_ways(saved / "two" / "test") == ROWS[:1]
    tables = load_tables(DataConfig(source=str(saved / "two")))
    assert {name: len(table) for name, table in tables.items()} == {"train": 4, "test": 1}
    with pytest.raises(DataError, match=r"several splits: train, test"):
        stream_file(saved / "two", DataConfig(source="x"), keep=["text"])
    (saved / "one" / "data-00000-of-00001.arrow").unlink()
    with pytest.raises(DataError, match=r"is damaged"):
        load_tables(DataConfig(source=str(saved / "one")))


def test_a_folder_for_each_class_is_a_table(tmp_path):
    for label, name, text in [("pos", "2.txt", "good\n\nfilm"), ("pos", "10.txt", "great"), ("neg", "1", "bad\n")]:
        (tmp_path / "texts" / label).mkdir(parents=True, exist_ok=True)
        (tmp_path / "texts" / label / name).write_text(text)
    (tmp_path / "texts" / "README.txt").write_text("notes")
    expected = [("bad", "neg"), ("good\n\nfilm", "pos"), ("great", "pos")]
    assert read_both_ways(tmp_path / "texts") == expected
    (tmp_path / "texts" / "neg" / "2").write_text(" \n")
    with pytest.raises(DataError, match=r"texts/neg/2: the file is empty"):
        load_tables(DataConfig(source=str(tmp_path / "texts")))


def test_class_folders_below_splits(tmp_path):
    for split in ("train", "test"):
        for label in ("pos", "neg"):
            (tmp_path / split / label).mkdir(parents=True)
            (tmp_path / split / label / "1.txt").write_text(f"{split} {label}")
        (tmp_path / split / "urls.txt").write_text("http://x")
    tables = load_tables(DataConfig(source=str(tmp_path)))
    assert list(tables["test"].columns["text"]) == ["test neg", "test pos"]
    assert read_both_ways(tmp_path / "train") == [("train neg", "neg"), ("train pos", "pos")]
    with pytest.raises(DataError, match=r"several splits"):
        stream_file(tmp_path, DataConfig(source="x"), keep=["text"])


def test_no_class_of_a_folder_is_left_out_without_a_word(tmp_path):
    for label in ("bird", "cat", "dog"):
        (tmp_path / label).mkdir()
        (tmp_path / label / "1.txt").write_text(f"a {label}")
    (tmp_path / "bird" / "Thumbs.db").write_bytes(b"of a file manager")
    assert read_both_ways(tmp_path) == [("a bird", "bird"), ("a cat", "cat"), ("a dog", "dog")]
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "fetch.py").write_text("")
    assert len(read_both_ways(tmp_path)) == 3
    (tmp_path / "bird" / "more").mkdir()
    message = r"the folder `bird` is no class like `cat`, since it holds `more`"
    with pytest.raises(DataError, match=message):
        load_tables(DataConfig(source=str(tmp_path)))
    with pytest.raises(DataError, match=message):
        stream_file(tmp_path, DataConfig(source="x"), keep=["text"])
    (tmp_path / "bird" / "more").rmdir()
    (tmp_path / "dog" / "1.txt").rename(tmp_path / "dog" / "1.png")
    with pytest.raises(DataError, match=r"the folder `dog` is no class like `bird`, since it holds `1.png`"):
        load_tables(DataConfig(source=str(tmp_path)))


def test_no_split_of_class_folders_is_left_out_without_a_word(tmp_path):
    for split, labels in (("train", ("pos", "neg")), ("test", ("pos",))):
        for label in labels:
            (tmp_path / split / label).mkdir(parents=True)
            (tmp_path / split / label / "1.txt").write_text(f"{split} {label}")
    assert list(load_tables(DataConfig(source=str(tmp_path)))["test"].columns["text"]) == ["test pos"]
    (tmp_path / "test" / "pos" / "1.txt").rename(tmp_path / "test" / "1.txt")
    (tmp_path / "test" / "pos").rmdir()
    with pytest.raises(DataError, match=r"the folder `test` has no folders of classes\n.*data.source: {train: …}"):
        load_tables(DataConfig(source=str(tmp_path)))
    tables = load_tables(DataConfig(source={"train": str(tmp_path / "train")}))
    assert len(tables["train"]) == 2


NESTED = [{"meta": {"body": text, "tags": [{"name": label}]}, "id": 1} for text, label in ROWS]


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.parquet"])
def test_fields_within_fields_have_dotted_names(name, tmp_path):
    path = tmp_path / name
    if name == "a.parquet":
        pq.write_table(pa.Table.from_pylist(NESTED), path)
    else:
        path.write_text("\n".join(map(json.dumps, NESTED)) if name == "a.jsonl" else json.dumps(NESTED))
    assert read_both_ways(path, ("meta.body", "meta.tags.0.name")) == ROWS
    with pytest.raises(DataError, match=r"the column `meta` has no field `bdy`[\s\S]*`body`"):
        read_both_ways(path, ("meta.bdy", "id"))


def test_a_column_whose_name_has_a_dot_comes_first(tmp_path):
    (tmp_path / "a.csv").write_text("meta.body,label\na,x\nb,y\n")
    assert read_both_ways(tmp_path / "a.csv", ("meta.body", "label")) == [("a", "x"), ("b", "y")]


RECORDS = [{"text": text, "label": label} for text, label in ROWS]
WRAPPED = {
    "data": {"data": RECORDS},
    "version": {"version": "1.0", "count": 4, "examples": RECORDS, "meta": {"by": "me"}},
    "deep": {"status": "ok", "response": {"total": 4, "docs": RECORDS}},
    "columns": {"data": {"text": [row[0] for row in ROWS], "label": [row[1] for row in ROWS]}},
    "pandas columns": {
        name: {str(at): row[place] for at, row in enumerate(ROWS)} for place, name in enumerate(("text", "label"))
    },
    "pandas index": {str(at): row for at, row in enumerate(RECORDS)},
    "pandas split": {"columns": ["text", "label"], "index": [0, 1, 2, 3], "data": [list(row) for row in ROWS]},
    "pandas table": {"schema": {"fields": [{"name": "text"}]}, "data": RECORDS},
}


@pytest.mark.parametrize("shape", WRAPPED)
def test_the_table_in_a_json_document_is_found(shape, tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(WRAPPED[shape]))
    assert read_both_ways(tmp_path / "a.json") == ROWS


def test_splits_in_a_wrapper_stay_splits(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps({"version": 2, "data": {"train": RECORDS, "test": RECORDS[:1]}}))
    tables = load_tables(DataConfig(source=str(tmp_path / "a.json")))
    assert {name: len(table) for name, table in tables.items()} == {"train": 4, "test": 1}


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.txt", "pos/a.txt"])
@pytest.mark.parametrize("wrong", ["mac-roman", "cp1252", "latin-1", "koi8-r"])
def test_utf_8_is_never_read_as_something_else(name, wrong, tmp_path):
    (tmp_path / "pos").mkdir()
    (tmp_path / "neg").mkdir()
    (tmp_path / "neg" / "a.txt").write_text("plain")
    content = '{"text": "schöne Grüße", "label": "x"}\n' if name == "a.jsonl" else "text,label\nschöne Grüße,x\n"
    (tmp_path / name).write_text(content, encoding="utf-8")
    path = tmp_path if "/" in name else tmp_path / name
    for read in (
        lambda: load_tables(DataConfig(source=str(path), encoding=wrong)),
        lambda: list(stream_file(path, DataConfig(source="x", encoding=wrong), keep=["text"]).chunks),
    ):
        with pytest.raises(DataError, match=r"“.*schöne[\s\S]*data.encoding: utf-8"):
            read()


@pytest.mark.parametrize("encoding", ["mac-roman", "cp1252", "latin-1", "gb18030", "utf-16"])
def test_a_file_that_really_is_in_another_encoding_is_read(encoding, tmp_path):
    (tmp_path / "a.csv").write_text(csv_of(","), encoding=encoding)
    assert read_both_ways(tmp_path / "a.csv", encoding=encoding) == ROWS


def test_a_stream_of_utf_16_that_is_read_as_another_encoding_is_refused(tmp_path):
    (tmp_path / "a.csv").write_bytes("text,label\nab,c\n".encode("utf-16-le"))
    with pytest.raises(DataError, match=r"NUL"):
        list(stream_file(tmp_path / "a.csv", DataConfig(source="x", encoding="latin-1"), keep=["text"]).chunks)


BEFORE = "".join(f"text {row},pos\n" for row in range(300))


@pytest.mark.parametrize(
    ("line", "value"),
    [
        (r"he said \"no\" twice,neg", 'he said "no" twice'),
        (r"a 5\" pipe,neg", 'a 5" pipe'),
        (r'"he said \"no\", twice",neg', 'he said "no", twice'),
    ],
)
def test_a_late_line_with_escaped_quotes_decides_for_a_whole_file_and_stops_a_stream(line: str, value: str) -> None:
    text = f"text,label\n{BEFORE}{line}\n"
    told: list[str] = []
    columns = parse_delimited(text, Dialect(None), where="a.csv", report=told.append)
    assert columns["text"][-1] == value
    assert told == ["a.csv: read with backslashes before the quotes within fields"]
    with pytest.raises(DataError, match=r"a\.csv, line 302: .*") as caught:
        list(stream_delimited(io.StringIO(text, newline=""), Dialect(None), where="a.csv"))
    assert "data.escape" in str(caught.value)
    rows = list(stream_delimited(io.StringIO(text, newline=""), Dialect(None, escape="\\"), where="a.csv"))
    assert rows[-1]["text"] == value


@pytest.mark.parametrize(
    "line", [r'{"a": "x\"y"}', r"C:\new\dir", '"5"" pipe\\"', '"say \\""no\\"" now"', '"ends\\"', r"a \ b"]
)
def test_backslashes_that_escape_nothing_stay(line: str) -> None:
    for text in (f"text\tlabel\n{line}\tneg\n", f"text\tlabel\n{BEFORE.replace(',', chr(9))}{line}\tneg\n"):
        wanted = next(csv.reader([line], delimiter="\t"))[0]
        assert parse_delimited(text, Dialect(None), where="a.tsv", usual="\t")["text"][-1] == wanted
        rows = stream_delimited(io.StringIO(text, newline=""), Dialect(None), where="a.tsv", usual="\t")
        assert list(rows)[-1]["text"] == wanted

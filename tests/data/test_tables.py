"""Files of every format as tables, and what each says when it is not what it should be."""

import csv
import json

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peftlab.core.errors import DataError
from peftlab.data.data_config import DataConfig
from peftlab.data.delimited import parse_delimited
from peftlab.data.dialects import Dialect
from peftlab.data.streaming import CHUNK_ROWS, stream_file, whole_split_of
from peftlab.data.tables import read_table, read_tables

ROWS = {"text": ["good film", "bad, „really” bad", "naïve"], "label": ["pos", "neg", None]}


def config(**changes):
    return DataConfig(source="x", **changes)


def write(path, content, encoding="utf-8"):
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content, encoding=encoding, newline="")
    return path


def records():
    return [dict(zip(ROWS, row, strict=True)) for row in zip(*ROWS.values(), strict=True)]


def write_stream(path, table):
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table)


def write_file(path, table):
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)


WRITERS = {
    "a.csv": lambda path: write(path, 'text,label\ngood film,pos\n"bad, „really” bad",neg\nnaïve,\n'),
    "a.tsv": lambda path: write(path, "text\tlabel\r\ngood film\tpos\r\nbad, „really” bad\tneg\r\n\r\nnaïve\t\r\n"),
    "b.csv": lambda path: write(path, '\ufefftext,label\ngood film,pos\n"bad, „really” bad",neg\nnaïve,""'),
    "a.json": lambda path: write(path, json.dumps(records())),
    "b.json": lambda path: write(path, json.dumps(ROWS, ensure_ascii=False)),
    "a.jsonl": lambda path: write(path, "\n\n".join(json.dumps(row) for row in records())),
    "a.parquet": lambda path: pq.write_table(pa.table(ROWS), path),
    "a.arrow": lambda path: write_stream(path, pa.table(ROWS)),
    "b.arrow": lambda path: write_file(path, pa.table(ROWS)),
    "a.feather": lambda path: feather.write_feather(pa.table(ROWS), path),
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_reads_the_same_rows(name, tmp_path):
    WRITERS[name](tmp_path / name)
    table = read_table(tmp_path / name, config())
    assert dict(table.columns) == ROWS
    assert table.names == ("text", "label")
    assert table.name == name


@pytest.mark.parametrize("name", WRITERS)
def test_only_the_wanted_columns_are_kept_but_all_are_known(name, tmp_path):
    WRITERS[name](tmp_path / name)
    table = read_table(tmp_path / name, config(), keep={"label"})
    assert dict(table.columns) == {"label": ROWS["label"]}
    assert table.names == ("text", "label")


@pytest.mark.parametrize("name", WRITERS)
def test_an_empty_file_is_an_error(name, tmp_path):
    with pytest.raises(DataError, match=f"{name}: the file is empty"):
        read_table(write(tmp_path / name, ""), config())


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "text,label\n"),
        ("a.json", "[]"),
        ("a.json", '{"text": []}'),
        ("a.json", "{}"),
        ("a.conll", "-DOCSTART- O\n\n"),
    ],
)
def test_a_file_without_rows_is_an_error(name, content, tmp_path):
    with pytest.raises(DataError, match="there are no rows"):
        read_table(write(tmp_path / name, content), config())


def test_a_parquet_file_without_rows_is_an_error(tmp_path):
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match="there are no rows"):
        read_table(tmp_path / "a.parquet", config())


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow", "a.feather"])
def test_a_columnar_file_that_is_something_else_says_so(name, tmp_path):
    with pytest.raises(DataError, match=f"{name}: not a (Parquet|Arrow) file"):
        read_table(write(tmp_path / name, "text,label\na,b\n" * 9), config())


@pytest.mark.parametrize("written", ["mac-roman", "cp1252", "utf-16", "gb18030"])
def test_the_encoding_is_used_and_a_wrong_one_names_the_offset_and_the_key(written, tmp_path):
    path = write(tmp_path / "a.csv", "text\nplain\nnaïve café\n", encoding=written)
    assert read_table(path, config(encoding=written)).columns["text"] == ["plain", "naïve café"]
    with pytest.raises(DataError) as caught:
        read_table(path, config())
    message = str(caught.value)
    data = path.read_bytes()
    offset = next(at for at, byte in enumerate(data) if byte > 127)
    assert f"0x{data[offset]:02x} at offset {offset} (line" in message
    assert "Set `data.encoding`" in message
    assert written in message


def test_a_nul_character_is_not_read_as_text(tmp_path):
    path = write(tmp_path / "a.csv", "text\nab\n".encode("utf-16-le"))
    with pytest.raises(DataError, match=r"a.csv, line 1: .*NUL"):
        read_table(path, config())


def test_labels_keep_their_spelling(tmp_path):
    path = write(tmp_path / "a.csv", "text,label\na,007\nb,1.0\nc,NA\nd,true\n")
    assert read_table(path, config()).columns["label"] == ["007", "1.0", "NA", "true"]


def test_a_row_of_another_width_names_its_line(tmp_path):
    path = write(tmp_path / "a.csv", 'text,label\n"two\nlines",x\na,b,c\n')
    with pytest.raises(DataError, match=r"a.csv, line 4: 3 fields where the header has 2"):
        read_table(path, config())


def test_a_quote_that_never_ends_names_its_line_and_the_key(tmp_path):
    path = write(tmp_path / "a.tsv", 'text\tlabel\nfine\t1\n"oh no\t0\nlast\t1\n')
    with pytest.raises(DataError, match=r"a.tsv, line 3: [^\n]*\n.*data.quoting: false"):
        read_table(path, config())
    assert read_table(path, config(quoting=False)).columns["text"] == ["fine", '"oh no', "last"]


def test_an_error_in_one_file_does_not_block_the_next(tmp_path):
    bad = write(tmp_path / "bad.csv", "a,b\n1\n")
    good = write(tmp_path / "good.csv", "a,b\n1,2\n")
    with pytest.raises(DataError):
        read_table(bad, config())
    limit = csv.field_size_limit()
    assert len(read_table(good, config())) == 1
    assert csv.field_size_limit() == limit


def test_a_field_may_be_longer_than_the_csv_module_s_limit(tmp_path):
    path = write(tmp_path / "a.csv", f"text\n{'x' * 200_000}\n")
    assert len(read_table(path, config()).columns["text"][0]) == 200_000


def test_a_twofold_column_is_an_error(tmp_path):
    with pytest.raises(DataError, match="has the column `a` twice"):
        read_table(write(tmp_path / "a.csv", "a,b,a\n1,2,3\n"), config())


def test_files_without_a_header_take_names(tmp_path):
    path = write(tmp_path / "a.csv", "a;1\nb;2\n")
    named = config(column_names=["text", "label"], delimiter=";")
    assert read_table(path, named).columns == {"text": ["a", "b"], "label": ["1", "2"]}
    with pytest.raises(DataError, match=r"line 1: 2 fields where `data.column_names` has 3"):
        read_table(path, config(column_names=["a", "b", "c"], delimiter=";"))


FIELD = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8)


@given(st.lists(st.lists(FIELD, min_size=3, max_size=3), min_size=1, max_size=8), st.sampled_from(",\t;|"))
def test_what_the_csv_module_writes_is_read_back(rows, delimiter):
    import io

    file = io.StringIO(newline="")
    writer = csv.writer(file, delimiter=delimiter, quoting=csv.QUOTE_ALL)
    writer.writerows([["a", "b", "c"], *rows])
    for part in (1, 2**20):  # of the text, which is read in parts
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("peftlab.data.delimited._PART", part)
            columns = parse_delimited(file.getvalue(), Dialect(delimiter), where="x")
        assert [list(row) for row in zip(*columns.values(), strict=True)] == [
            [field or None for field in row] for row in rows
        ]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", '[{"a": 1},\n{"a" 2}]', r"a.json, line 2: not JSON"),
        ("a.json", '{"a": 1}\n{"a": 2}\n', "data.format: jsonl"),
        ("a.json", '"text"', "holds no table"),
        ("a.json", "[1, 2]", "item 1: a row must be an object, not int"),
        ("a.json", "[[1, 2]]", "data.column_names"),
        ("a.json", '{"a": [1], "b": [1, 2]}', "differ in length: `a` 1, `b` 2"),
        ("a.json", "[" * 100_000, "not JSON"),
        ("a.json", f'[{{"a": {"9" * 5000}}}]', "not JSON"),
        ("a.jsonl", '{"a": 1}\n\n{"a": \n', r"a.jsonl, line 3"),
        ("a.jsonl", '{"a": 1}\nnull\n', r"a.jsonl, line 2: a row must be an object, not null"),
        ("a.conll", "EU B\nrejects\n", r"a.conll, line 2: 1 columns where 2 columns"),
        ("a.conll", "EU\n", r"a.conll, line 1: 1 columns where a token and a tag"),
        ("a.xyz", "text\n", "Set `data.format`"),
    ],
)
def test_what_is_not_in_the_format_names_its_place(name, content, message, tmp_path):
    with pytest.raises(DataError, match=message):
        read_table(write(tmp_path / name, content), config())


def test_json_rows_may_miss_keys_and_nan_is_missing(tmp_path):
    path = write(tmp_path / "a.jsonl", '{"a": 1}\n{"b": "x\u2028y", "a": NaN}\n')
    assert read_table(path, config()).columns == {"a": [1, None], "b": [None, "x\u2028y"]}


def test_json_lists_of_values_take_names_and_splits(tmp_path):
    path = write(tmp_path / "a.json", json.dumps({"train": [["hi", "greet"]], "oos": [["x", "oos"], ["y", "oos"]]}))
    tables = read_tables(path, config(column_names=["text", "intent"]))
    assert {name: len(table) for name, table in tables.items()} == {"train": 1, "oos": 2}
    assert tables["train"].columns == {"text": ["hi"], "intent": ["greet"]}


def test_token_lists_in_json_columns_are_not_splits(tmp_path):
    path = write(tmp_path / "a.json", json.dumps({"tokens": [["a", "b"]], "tags": [["O", "B"]]}))
    assert read_tables(path, config())[""].columns == {"tokens": [["a", "b"]], "tags": [["O", "B"]]}


def test_conll_reads_the_first_and_the_last_column(tmp_path):
    text = "-DOCSTART- -X- O\n\nEU NNP B-ORG\nrejects VBZ O\n \n\nPeter NNP B-PER\n"
    path = write(tmp_path / "a.conll", text)
    assert read_table(path, config()).columns == {
        "tokens": [["EU", "rejects"], ["Peter"]],
        "tags": [["B-ORG", "O"], ["B-PER"]],
    }
    named = read_table(path, config(column_names=["words", "pos", "ner"]))
    assert named.columns["pos"] == [["NNP", "VBZ"], ["NNP"]]


def test_conll_tokens_may_hold_blanks_and_line_separators_where_tabs_split(tmp_path):
    path = write(tmp_path / "a.conll", "New York\tB\r\na\u2028b\tO\r\n\r\n")
    assert read_table(path, config()).columns["tokens"] == [["New York", "a\u2028b"]]


def test_class_numbers_of_a_hub_file_become_names(tmp_path):
    features = {"label": {"names": ["neg", "pos"], "_type": "ClassLabel"}}
    features["tags"] = {"feature": {"names": ["O", "B"], "_type": "ClassLabel"}, "_type": "List"}
    table = pa.table({"label": [1, 0, -1], "tags": [[0, 1], [1], []]})
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table, tmp_path / "a.parquet")
    columns = read_table(tmp_path / "a.parquet", config()).columns
    assert columns == {"label": ["pos", "neg", None], "tags": [["O", "B"], ["B"], []]}


def test_nan_of_a_columnar_file_is_missing(tmp_path):
    pq.write_table(pa.table({"label": [1.5, float("nan")]}), tmp_path / "a.parquet")
    assert read_table(tmp_path / "a.parquet", config()).columns["label"] == [1.5, None]


def test_a_folder_s_files_are_splits_and_their_parts_belong_together(tmp_path):
    for part, rows in ((0, ["a", "b"]), (1, ["c"])):
        pq.write_table(pa.table({"text": rows}), tmp_path / f"train-0000{part}-of-00002.parquet")
    pq.write_table(pa.table({"text": ["d"]}), tmp_path / "dev.parquet")
    write(tmp_path / "notes.json", "{}")
    write(tmp_path / "README.md", "words")
    tables = read_tables(tmp_path, config())
    assert {name: table.columns["text"] for name, table in tables.items()} == {"train": ["a", "b", "c"], "dev": ["d"]}


def test_parts_are_known_by_their_names(tmp_path):
    """As Spark, the Hub and macOS write them: numbers alone, a digest behind them, and files that are none."""
    half = {name: (values[:2], values[2:]) for name, values in ROWS.items()}
    for folder, names in {
        "hub": ("train-00000-of-00002-a0b1c2d3e4f5a6b7", "train-00001-of-00002-b0b1c2d3e4f5a6b7"),
        "spark": ("part-00000-x.snappy", "part-00001-x.snappy"),
        "numbers": ("0000", "0001"),
    }.items():
        (tmp_path / folder).mkdir()
        for at, name in enumerate(names):
            pq.write_table(
                pa.table({key: parts[at] for key, parts in half.items()}), tmp_path / folder / f"{name}.parquet"
            )
        (tmp_path / folder / f"._{names[0]}.parquet").write_bytes(b"junk")
        (tmp_path / folder / "~$train.xlsx").write_bytes(b"junk")
        (table,) = read_tables(tmp_path / folder, config()).values()
        assert dict(table.columns) == ROWS


def test_parts_may_differ_in_columns_that_nobody_wants(tmp_path):
    write(tmp_path / "part-0.jsonl", '{"text": "a", "label": "x"}\n')
    write(tmp_path / "part-1.jsonl", '{"label": "y", "more": 1, "text": "b"}\n')
    for keep in (None, {"text", "label"}, {"text", "label", "else"}):
        table = read_tables(tmp_path, config(), keep=keep)[""]
        assert dict(table.columns) == {"text": ["a", "b"], "label": ["x", "y"]}
    assert len(read_tables(tmp_path, config(), keep={"else"})[""]) == 2
    with pytest.raises(DataError, match=r"`more` is not in every part") as error:
        read_tables(tmp_path, config(), keep={"text", "more"})
    assert error.value.where == "part-0.jsonl"
    write(tmp_path / "part-2.jsonl", '{"other": 1}\n')
    with pytest.raises(DataError, match=r"no column is in all 3 files"):
        read_tables(tmp_path, config())


def test_files_that_are_no_split_are_told(tmp_path):
    for name in ("train", "latest", "contest"):
        (tmp_path / f"{name}.csv").write_text("text\nx\n")
    told: list[str] = []
    assert set(read_tables(tmp_path, config(), report=told.append)) == {"train"}
    assert told == [f"{tmp_path.name}: not read, since the name is no split's: contest.csv, latest.csv"]


def test_a_folder_without_tables_is_an_error(tmp_path):
    write(tmp_path / "README.md", "words")
    with pytest.raises(DataError, match="the folder holds no tables"):
        read_tables(tmp_path, config())
    with pytest.raises(DataError, match="this is a folder"):
        read_table(tmp_path, config())


def test_a_name_that_is_there_twice_is_refused(tmp_path):
    table = pa.table([pa.array(["a"]), pa.array(["b"]), pa.array([1])], names=["text", "text", "label"])
    pq.write_table(table, tmp_path / "a.parquet")
    write_stream(tmp_path / "a.arrow", table)
    for name in ("a.parquet", "a.arrow"):
        with pytest.raises(DataError, match=rf"{name}: the table has two columns `text`"):
            read_table(tmp_path / name, config())
    with pytest.raises(DataError, match="two columns `text`"):
        list(stream_file(tmp_path / "a.parquet", config(), keep=["label"]).chunks)
    lines = write(tmp_path / "a.jsonl", '{"text": "a"}\n{"text": "b", "text": "c"}\n')
    with pytest.raises(DataError, match=r"a.jsonl, line 2: .*an object has the name `text` twice"):
        read_table(lines, config())
    with pytest.raises(DataError, match=r"a.jsonl, line 2: .*an object has the name `text` twice"):
        list(stream_file(lines, config(), keep=["text"]).chunks)


def test_columns_of_numbered_objects_are_put_together_by_their_numbers(tmp_path):
    path = write(tmp_path / "a.json", '{"text": {"0": "a", "1": "b"}, "label": {"1": "of b", "0": "of a"}}')
    assert read_table(path, config()).columns == {"text": ["a", "b"], "label": ["of a", "of b"]}


def test_a_stream_is_read_as_the_whole_file(tmp_path):
    path = write(tmp_path / "a.csv", "\ufefftext,label\na,b\n".encode("utf-16-le"))
    (table, _), *_ = stream_file(path, config(encoding="utf-16-le"), keep=["text"]).chunks
    assert table.columns == {"text": ["a"]}
    assert table.names == ("text", "label")
    path = write(tmp_path / "b.csv", "a||b\nc\0||d\n")
    with pytest.raises(DataError, match=r"b.csv, line 2: the line holds a NUL"):
        list(stream_file(path, config(delimiter="||", quoting=False, header=False), keep=["column_1"]).chunks)
    lines = [{"text": "a", "note": "b"}, *({"text": str(at)} for at in range(CHUNK_ROWS))]
    path = write(tmp_path / "c.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    notes = [note for table, _ in stream_file(path, config(), keep=["note"]).chunks for note in table.columns["note"]]
    assert notes == read_table(path, config()).columns["note"]


def test_a_streamed_column_may_come_late(tmp_path):
    """Rows of JSON may lack a key, as in a file that is read whole; so may parts of a stream."""
    rows = [{"text": "a"}] * (2 * CHUNK_ROWS) + [{"text": "b", "label": "x", "meta": {"y": 1}, "deep": {"z": 1}}]
    rows[:CHUNK_ROWS] = [{"text": "a", "deep": {"z": 1}}] * CHUNK_ROWS
    rows[CHUNK_ROWS : 2 * CHUNK_ROWS] = [{"text": "a", "deep": {"other": 1}}] * CHUNK_ROWS
    columns = ["text", "label", "meta.y", "deep.z"]
    for name, content in {"a.jsonl": "\n".join(map(json.dumps, rows)), "a.json": json.dumps(rows)}.items():
        path = write(tmp_path / name, content)
        found = whole_split_of(stream_file(path, config(), keep=columns), "data", columns)
        assert found.columns["label"] == [None] * (2 * CHUNK_ROWS) + ["x"]
        assert found.columns["meta.y"] == [None] * (2 * CHUNK_ROWS) + [1]
        assert found.columns["deep.z"] == [1] * CHUNK_ROWS + [None] * CHUNK_ROWS + [1]
        for missing in ("lable", "deep.y"):
            with pytest.raises(DataError, match=r"no (column|field)"):
                whole_split_of(stream_file(path, config(), keep=[missing]), "data", [missing])
    broken = write(tmp_path / "b.jsonl", "\n".join(map(json.dumps, rows)) + "\n{")
    chunks = stream_file(broken, config(), keep=["text", "nowhere"]).chunks
    assert len(next(chunks)[0]) == CHUNK_ROWS  # the broken line is told when its turn comes
    with pytest.raises(DataError, match=rf"{len(rows) + 1}|not JSON"):
        list(chunks)


def test_the_hint_of_a_line_of_json_is_of_a_line(tmp_path):
    path = write(tmp_path / "a.jsonl", '{"text": "a"} {"text": "b"}\n')
    with pytest.raises(DataError, match=r"a.jsonl, line 1: not JSON: Extra data\n  A line holds one object") as caught:
        read_table(path, config())
    assert str(caught.value).count("line 1") == 1

"""Tables of any size are read in little memory, packed and from Excel too."""

import bz2
import gzip
import io
import json
import lzma
import tracemalloc
import zipfile
from functools import partial

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from peftlab.data.data_config import DataConfig
from peftlab.data.streaming import stream_file
from peftlab.data.tables import read_table

pytestmark = pytest.mark.slow

ROWS = 40_000
LENGTH = 400
LIMIT = 10e6
"""Of 16 MB of texts."""


def text(row: int) -> str:
    return f"{row} ".ljust(LENGTH, "x")


def lines(path, opened):
    with opened(path, "wb") as file:
        file.write(b"text;label\n")
        for row in range(ROWS):
            file.write(f"{text(row)};{row % 2}\n".encode())


def zipped(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        lines(None, lambda *_: archive.open("a.csv", "w"))


def packed_parquet(path):
    file = io.BytesIO()
    writer = pq.ParquetWriter(file, pa.schema([("text", pa.string()), ("label", pa.string())]))
    for start in range(0, ROWS, 2000):
        part = {"text": [text(row) for row in range(start, start + 2000)], "label": ["x"] * 2000}
        writer.write_table(pa.table(part))
    writer.close()
    with gzip.open(path, "wb") as target:
        target.write(file.getvalue())


def workbook(path):
    book = openpyxl.Workbook(write_only=True)
    sheet = book.create_sheet("a")
    sheet.append(["text", "label"])
    for row in range(ROWS // 10):
        sheet.append([row * 1.5, row % 2])
    book.save(path)


@pytest.mark.parametrize(
    ("name", "write", "rows"),
    [
        ("a.csv.gz", lambda path: lines(path, gzip.open), ROWS),
        ("a.csv.bz2", lambda path: lines(path, bz2.open), ROWS),
        ("a.csv.xz", lambda path: lines(path, partial(lzma.open, preset=0)), ROWS),
        ("a.zip", zipped, ROWS),
        ("a.parquet.gz", packed_parquet, ROWS),
        ("a.xlsx", workbook, ROWS // 10),
    ],
)
def test_a_large_table_is_read_in_little_memory(name, write, rows, tmp_path):
    write(tmp_path / name)
    config = DataConfig(source="x")
    next(stream_file(tmp_path / name, config, keep=["text"]).chunks)  # what is imported stays
    tracemalloc.start()
    try:
        found = sum(len(table) for table, _ in stream_file(tmp_path / name, config, keep=["text"]).chunks)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found == rows
    assert peak < LIMIT


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_a_table_that_is_read_whole_takes_little_more_than_its_texts(name, tmp_path):
    path = tmp_path / name
    if name == "a.csv":
        lines(path, open)
    else:
        path.write_text("".join(json.dumps({"text": text(row), "label": "x"}) + "\n" for row in range(ROWS)))
    config = DataConfig(source="x")
    tracemalloc.start()
    try:
        table = read_table(path, config, keep=["text"])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(table) == ROWS
    assert peak < 3.2 * path.stat().st_size

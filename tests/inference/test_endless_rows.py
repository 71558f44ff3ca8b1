"""Rows are read as they are needed, so that a table of any size can be predicted on."""

from __future__ import annotations

import itertools
import json
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from peftlab.core.errors import UserError
from peftlab.core.reporter import Silent
from peftlab.data.data_config import DataConfig
from peftlab.data.streaming import CHUNK_ROWS, stream_file, stream_rows
from peftlab.inference.load_tuned import load_tuned
from peftlab.inference.outputs import GROUP, write_answers
from peftlab.inference.predict import predict_rows

pytestmark = pytest.mark.slow

ROWS = 60_000
TEXT = "we saw the film in town and then it was a good day " * 2


def test_an_answer_comes_before_the_last_row_is_read(tiny_run: Callable[..., Path]) -> None:
    tuned = load_tuned(tiny_run(), offline=True)
    read = itertools.count()

    def endless() -> Iterator[dict[str, str]]:
        for number in read:
            yield {"text": f"the film was {'good' if number % 2 else 'bad'}"}

    answers = predict_rows(tuned, stream_rows("rows", endless(), keep=["text"]), Silent())
    found = list(itertools.islice(answers, CHUNK_ROWS + 10))
    assert [answer["index"] for answer in found] == list(range(CHUNK_ROWS + 10))
    assert next(read) <= 2 * CHUNK_ROWS + 1


def write_table(kind: str, path: Path) -> None:
    if kind == "parquet":
        table = pa.table({"text": [f"{TEXT}{row}" for row in range(ROWS)]})
        pq.write_table(table, path, row_group_size=2000, compression="none", use_dictionary=False)
        return
    with path.open("w") as file:
        if kind == "csv":
            file.write("text\n")
        for row in range(ROWS):
            file.write(f"{TEXT}{row}\n" if kind == "csv" else json.dumps({"text": f"{TEXT}{row}"}) + "\n")


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_memory_does_not_grow_with_the_file(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"rows.{kind}"
    write_table(kind, path)
    size, rows, largest = path.stat().st_size, 0, 0
    before = pa.total_allocated_bytes()
    tracemalloc.start()
    try:
        for table, _ in stream_file(path, DataConfig(source="data"), keep=["text"]).chunks:
            rows += len(table)
            largest = max(largest, pa.total_allocated_bytes() - before)
        largest += tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert rows == ROWS
    assert largest < size / 4


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_answers_are_written_as_they_come(kind: str, tmp_path: Path) -> None:
    written = ROWS // 2
    pa.array(["text"])  # the first one imports pandas
    tracemalloc.start()
    try:
        answers = ({"index": row, "text": f"{TEXT}{row}", "scores": {"a": 0.5, "b": 0.5}} for row in range(written))
        assert write_answers(tmp_path / f"out.{kind}", answers) == written
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 12_000_000


def test_columns_of_texts_and_lists_are_written(tmp_path: Path) -> None:
    """A file of rows that a task takes may hold texts in some rows and lists of words in others."""

    def rows(first: object, last: object) -> Iterator[dict[str, object]]:
        yield from ({"index": row, "text": first} for row in range(GROUP))
        yield {"index": GROUP, "text": last}

    mixed = [{"text": "a"}, {"text": ["a", "é"]}]
    for answers, last in ((mixed, '["a", "é"]'), (rows("a", ["b"]), '["b"]'), (rows(None, ["b"]), '["b"]')):
        write_answers(tmp_path / "out.parquet", answers)
        assert pq.read_table(tmp_path / "out.parquet")["text"][-1].as_py() == last
    with pytest.raises(UserError, match="`text` holds lists in the first"):
        write_answers(tmp_path / "new.parquet", rows(["a"], "b"))
    assert not (tmp_path / "new.parquet").exists()

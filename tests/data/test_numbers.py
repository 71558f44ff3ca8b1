"""Numbers as tables write them: read rightly where the column tells how, and refused where it does not."""

import pytest

from peftlab.core.config import parse_yaml
from peftlab.core.errors import DataError
from peftlab.data.data_config import DataConfig
from peftlab.data.numbers import DecimalWatch, plain_numbers
from peftlab.data.streaming import CHUNK_ROWS, splits_of, stream_file
from peftlab.preparation.load_data import load_data
from peftlab.recipe.schema import build_recipe


def read(values, known=None):
    return plain_numbers(values, DecimalWatch("y", "a.csv", known).read(values))


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (["3,14", "2", "-0,5"], ["3.14", "2", "-0.5"]),
        (["1.234,5", "2,0"], ["1234.5", "2.0"]),
        (["1 234,5", "12'000,25"], ["1234.5", "12000.25"]),
        (["0,125", "0,250"], ["0.125", "0.250"]),
        (["−3,5", "1,2e-3"], ["-3.5", "1.2e-3"]),
        (["1,234.5", "2,000"], ["1234.5", "2000"]),
        (["1,234", "0.5"], ["1234", "0.5"]),
        (["3.14", "1e5", " 2 "], ["3.14", "1e5", " 2 "]),
        (["1.234", "5.678"], ["1.234", "5.678"]),
        ([3.5, None, 2], [3.5, None, 2]),
        (["3,14", None, "n/a", 2.5], ["3.14", None, "n/a", 2.5]),
    ],
)
def test_what_a_column_tells_is_read(written, meant):
    assert read(written) == meant


@pytest.mark.parametrize(
    ("written", "message"),
    [
        (["1,234", "2,345"], r"whether 1,234 is 1\.234 or 1234[\s\S]*data\.decimal"),
        (["3,14", "2.5"], "commas and points before decimals: 3,14 and 2.5"),
        (["3,14", "1.234"], "commas and points"),
        (["1,234.5", "2,75"], "commas and points"),
    ],
)
def test_what_a_column_does_not_tell_is_refused(written, message):
    with pytest.raises(DataError, match=message):
        read(written)


def test_what_is_said_goes_first():
    assert read(["1,234", "2,345"], known=",") == ["1.234", "2.345"]
    assert read(["1,234", "2,345"], known=".") == ["1234", "2345"]
    assert read(["3,14", "1.234"], known=",") == ["3.14", "1234"]


def recipe(data):
    text = f"model: {{path: x}}\ntask: {{type: text_regression}}\ndata: {data}\nmethod: {{type: lora}}"
    return build_recipe(parse_yaml(text, source="a.yaml"), default_name="a")


def test_all_splits_decide_together(tmp_path):
    train = "text;label\n" + "".join(f"text {row};{row},{row % 10}\n" for row in range(30))
    (tmp_path / "train.csv").write_text(train)
    (tmp_path / "test.csv").write_text("text;label\nother;1,234\n")
    data = load_data(
        recipe("{source: {train: train.csv, test: test.csv}}"), folder=tmp_path, offline=True, report=lambda line: None
    )
    assert float(data.splits["test"].columns["label"][0]) == 1.234
    assert sorted(map(float, data.splits["train"].columns["label"]))[:2] == [0.0, 1.1]


def test_a_stream_keeps_what_its_first_rows_told(tmp_path):
    rows = ["3,14"] * CHUNK_ROWS + ["1,234"] * 5
    (tmp_path / "a.csv").write_text("text;label\n" + "".join(f"t;{value}\n" for value in rows))
    config = DataConfig(source="x")
    stream = stream_file(tmp_path / "a.csv", config, keep=["text", "label"], number_columns=["label"])
    values = [value for split, _ in splits_of(stream, ["text"], ["label"]) for value in split.columns["label"]]
    assert (values[0], values[-1]) == ("3.14", "1.234")


@pytest.mark.parametrize(
    ("first", "later", "message"),
    [
        ("3,14", "2.5", "row 1026: .*commas and points before decimals: 3,14 and 2.5"),
        ("2.5", "3,14", "row 1026: .*commas and points before decimals: 3,14 and 2.5"),
        ("1,234.5", "2,75", "row 1026: .*commas and points"),
        ("1.500", "3,5", "row 1026: .*commas and points"),
        ("7", "1,234", "does not tell whether 1,234"),
    ],
)
def test_a_later_part_of_a_stream_that_contradicts_is_refused(tmp_path, first, later, message):
    rows = [first] * (CHUNK_ROWS + 1) + [later]
    (tmp_path / "a.csv").write_text("text;label\n" + "".join(f"t;{value}\n" for value in rows))
    config = DataConfig(source="x")
    stream = stream_file(tmp_path / "a.csv", config, keep=["text", "label"], number_columns=["label"])
    with pytest.raises(DataError, match=message):
        list(splits_of(stream, ["text"], ["label"]))

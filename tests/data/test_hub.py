"""Hub data sets: class names, split names, offline, and errors in one line."""

import socket

import datasets
import huggingface_hub.constants
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from peftlab.core.errors import DataError, SourceError
from peftlab.data.data_config import DataConfig
from peftlab.data.hub import load_hub_tables
from peftlab.data.row_rules import RowRules
from peftlab.data.splits import load_splits

FEATURES = datasets.Features(
    {
        "text": datasets.Value("string"),
        "label": datasets.ClassLabel(names=["neg", "pos"]),
        "tags": datasets.List(datasets.ClassLabel(names=["O", "B"])),
    }
)


def rows(texts, label=1):
    columns = {"text": texts, "label": [label] * len(texts), "tags": [[0, 1]] * len(texts)}
    return datasets.Dataset.from_dict(columns, features=FEATURES)


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("the network was touched")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def glue(monkeypatch):
    calls = []
    loaded = {
        "train": rows(["a", "b", "c"]),
        "validation_matched": rows(["d"], 0),
        "validation_mismatched": rows(["e", "f"]),
        "test": rows(["g"], -1),
    }
    monkeypatch.setattr(datasets, "load_dataset", lambda *args, **options: calls.append((args, options)) or loaded)
    return calls


def test_class_numbers_become_names_and_hidden_labels_are_missing(glue):
    tables = load_hub_tables("nyu-mll/glue", DataConfig(source="x", subset="mnli", revision="abc"))
    assert glue == [(("nyu-mll/glue", "mnli"), {"revision": "abc"})]
    assert tables["train"].columns == {"text": ["a", "b", "c"], "label": ["pos"] * 3, "tags": [["O", "B"]] * 3}
    assert tables["validation_matched"].columns["label"] == ["neg"]
    assert tables["test"].columns["label"] == [None]
    assert tables["train"].name == "nyu-mll/glue: train"


def test_split_names_are_understood_or_mapped(glue, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rules = RowRules(["text"], ["label"])
    with pytest.raises(DataError, match=r"missing in every row of the test split\n.*data.splits"):
        load_splits(DataConfig(source="nyu-mll/glue"), rules, seed=0)
    mapped = DataConfig(source="nyu-mll/glue", splits={"train": "train", "test": "validation_matched"})
    assert load_splits(mapped, rules, seed=0).summary.rows == {"train": 2, "validation": 1, "test": 1}


def test_a_real_folder_loads_through_the_library(tmp_path, monkeypatch, no_network):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "set").mkdir()
    pq.write_table(pa.table({"text": ["a", "b"], "label": [0, 1]}), tmp_path / "set" / "train.parquet")
    tables = load_hub_tables(str(tmp_path / "set"), DataConfig(source="x"), keep={"label"}, offline=True)
    assert tables["train"].columns == {"label": [0, 1]}
    assert tables["train"].names == ("text", "label")


def test_offline_touches_no_network_and_says_what_to_do(tmp_path, monkeypatch, no_network):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    before = datasets.config.HF_HUB_OFFLINE, huggingface_hub.constants.HF_HUB_OFFLINE
    with pytest.raises(SourceError, match="Run once without --offline"):
        load_hub_tables("nobody/nothing", DataConfig(source="x"), offline=True)
    assert before == (datasets.config.HF_HUB_OFFLINE, huggingface_hub.constants.HF_HUB_OFFLINE)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ValueError("BuilderConfig 'x' not found. Available: ['cola', 'sst2']"), r"cola.*\n.*data.subset"),
        (ConnectionError("Couldn't reach it"), "the Hub cannot be reached"),
        (FileNotFoundError("Dataset doesn't exist"), "cannot be loaded: Dataset doesn't exist"),
    ],
)
def test_the_library_s_errors_become_one_line(error, message, monkeypatch):
    def fail(*args, **options):
        raise error

    monkeypatch.setattr(datasets, "load_dataset", fail)
    with pytest.raises(SourceError, match=message):
        load_hub_tables("a/b", DataConfig(source="x"))

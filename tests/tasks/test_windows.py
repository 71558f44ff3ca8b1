"""Long texts in windows: each token is read, the mean of the windows decides, and what is cut is counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import torch
from transformers import AutoTokenizer

import peftlab
from peftlab.core.errors import ConfigError, UnsupportedError
from peftlab.core.reporter import PlainReporter
from peftlab.core.splits import Split
from peftlab.inference.explanation.attributions import explain
from peftlab.inference.export.export import export_run
from peftlab.tasks._tagged import encode_tagged_in_windows
from peftlab.tasks.text_classification import TextClassification
from peftlab.tasks.text_pair_classification import TextPairClassification
from peftlab.tasks.windows import Windows, check_overflow, cut_into_windows, window_weights
from tests.conftest import sentences

pytestmark = pytest.mark.slow

LABELS = ("bad", "good")


def long_rows() -> list[dict[str, Any]]:
    """The word that decides stands behind what one window holds."""
    return [
        {"text": f"{'the town of a day ' * (at % 5)}{text}", "label": label}
        for at, (text, label) in enumerate(sentences(64))
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_bert: Path) -> Path:
    folder = tmp_path_factory.mktemp("windows")
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in long_rows()))
    recipe = peftlab.Recipe(
        model={"path": str(tiny_bert)},
        task={"type": "text_classification", "max_length": 12, "windows": {"stride": 3, "most": 3}},
        data={"source": str(folder / "rows.jsonl"), "validation_fraction": 0.2, "test_fraction": 0.2},
        method={"type": "lora"},
        training={"max_steps": 6, "batch_size": 8, "learning_rate": 1e-2},
    )
    result = peftlab.run_recipe(recipe, output_dir=folder / "run")
    assert result.record.status == "success", result.record.error
    return folder


def test_a_tokenizer_that_loses_what_is_behind_a_window_is_refused(
    tiny_bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As tokenizers 0.23.1 and 0.23.2 do: they stop reading where the first window ends."""

    class Forgetful:
        def __init__(self, model: Any) -> None:
            self._own = own(model)

        def enable_truncation(self, max_length: int) -> None:
            self._length = max_length

        def encode(self, text: str) -> Any:
            return self._own.encode(" ".join(text.split()[: self._length]))

    tokenizer = AutoTokenizer.from_pretrained(tiny_bert)
    own = tokenizers.Tokenizer
    monkeypatch.setattr(tokenizers, "Tokenizer", Forgetful)
    check_overflow.cache_clear()
    with pytest.raises(UnsupportedError, match=r"loses the end of texts[\s\S]*pip install 'tokenizers>="):
        cut_into_windows(tokenizer, "a good day", max_length=8, stride=2)
    monkeypatch.undo()
    assert cut_into_windows(tokenizer, "a good day", max_length=8, stride=2)["input_ids"]


def test_every_token_is_in_a_window_until_there_are_too_many(tiny_bert: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_bert)
    text = " ".join(text for text, _ in sentences(6))
    plain = tokenizer(text, add_special_tokens=False)["input_ids"]
    rows = Split("train", [0, 1], {"text": [text, "a good day"], "label": ["good", "bad"]})
    task = TextClassification(max_length=12, windows=Windows(stride=3, most=100))
    encoded = task.encode(rows, tokenizer, LABELS)
    windows = [row["input_ids"] for row in encoded.examples[0]["windows"]]
    assert all(len(window) <= 12 for window in windows)
    again = windows[0][1:-1] + [token for window in windows[1:] for token in window[4:-1]]
    assert again == plain
    assert [example["truncated"] for example in encoded.examples] == [False, False]
    assert encoded.notes == {"texts_in_windows": 1, "texts_cut_behind_windows": 0, "windows_cut": 0}
    few = TextClassification(max_length=12, windows=Windows(stride=3, most=2)).encode(rows, tokenizer, LABELS)
    assert few.notes == {"texts_in_windows": 1, "texts_cut_behind_windows": 1, "windows_cut": len(windows) - 2}
    assert few.examples[0]["truncated"]


def test_the_mean_of_the_windows_decides() -> None:
    task = TextClassification(max_length=4, windows=Windows(stride=1))
    examples = [
        {"input_ids": [1] * 6, "windows": [{"input_ids": [1] * 4}, {"input_ids": [1] * 2}], "label": 1},
        {"input_ids": [1], "windows": [{"input_ids": [1]}], "label": 0},
    ]
    assert window_weights(examples).tolist() == [[0.5, 0.5, 0.0], [0.0, 0.0, 1.0]]
    batch = task.collate(examples, 0)
    assert batch["input_ids"].shape == (3, 4)
    logits = torch.tensor([[5.0, 0.0], [0.0, 6.0], [1.0, 0.0]])
    assert [item.prediction for item in task.predict(logits, batch, LABELS)] == ["good", "bad"]
    wanted = torch.nn.functional.cross_entropy(
        torch.tensor([[2.5, 3.0], [1.0, 0.0]]), torch.tensor([1, 0]), reduction="sum"
    )
    assert torch.equal(task.loss(logits, batch), wanted)
    assert task.loss_terms(batch) == 2


def test_settings_that_cannot_be() -> None:
    with pytest.raises(ConfigError, match="more than half of a window"):
        TextClassification(max_length=8, windows=Windows(stride=5))
    with pytest.raises(ConfigError, match="single texts"):
        TextPairClassification(windows=Windows())


def test_a_run_counts_predicts_and_is_exported(folder: Path, tmp_path: Path) -> None:
    record = peftlab.read_record(folder / "run")
    notes = record.data.notes["train"]
    assert notes["texts_in_windows"] > 0
    assert notes["windows_cut"] > 0
    loaded = peftlab.load(folder / "run")
    long_text = "the town of a day " * 4 + "good film"
    one, other = loaded.predict([long_text, "good film"])
    assert one["truncated"]
    assert not other["truncated"]
    alone = loaded.predict([long_text])[0]
    assert alone["scores"] == pytest.approx(one["scores"], rel=1e-4)
    description = export_run(folder / "run", "onnx", tmp_path / "onnx", offline=True, reporter=PlainReporter())
    assert description.check is not None
    assert description.check.equal_predictions == 1
    exported = peftlab.load(tmp_path / "onnx").predict([long_text])[0]
    assert exported["scores"] == pytest.approx(alone["scores"], rel=1e-3)
    assert "read in windows that share 3" in (tmp_path / "onnx" / "README.md").read_text()
    with pytest.raises(UnsupportedError, match="read in 3 windows"):
        explain(loaded.tuned, long_text)
    assert explain(loaded.tuned, "good film", steps=4).prediction in LABELS


def test_windows_of_tagged_texts_are_gone_through_once(tiny_bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []

    def cut(*given: Any, **options: Any) -> Any:
        encoded = cut_into_windows(*given, **options)
        texts = encoded["overflow_to_sample_mapping"]
        encoded["overflow_to_sample_mapping"] = (read.append(text) or text for text in texts)
        return encoded

    monkeypatch.setattr("peftlab.tasks._tagged.cut_into_windows", cut)
    words = [["good", "day"] * count for count in (1, 9, 2)]
    tags = [[0, 1] * count for count in (1, 9, 2)]
    tokenizer = AutoTokenizer.from_pretrained(tiny_bert)
    windows = Windows(stride=2, most=9)
    examples, rows = encode_tagged_in_windows(words, tags, tokenizer, max_length=8, windows=windows)
    assert [example["tags"] for example in examples] == tags
    assert len(rows[1]) > 1
    assert read == [text for text, own in enumerate(rows) for _ in own]

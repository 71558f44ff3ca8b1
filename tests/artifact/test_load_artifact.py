"""An adapter goes only onto the base that it was trained on, and a damaged one is refused in words."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertForSequenceClassification

from peftlab.artifact.hosting import add_adapter
from peftlab.artifact.load_artifact import load_artifact
from peftlab.artifact.save import save_artifact
from peftlab.artifact.whole_model import load_model
from peftlab.core.errors import UserError
from peftlab.core.method import METHODS, MethodContext
from tests.small_methods import DISTINCT, small_method

CONTEXT = MethodContext("SEQ_CLS", 10, head_modules=("classifier",), family="encoder")
FROZEN_BASE = [name for name in DISTINCT if not METHODS[name].trains_base]


class NoTokenizer:
    def save_pretrained(self, folder: Path) -> None:
        for name in ("tokenizer.json", "tokenizer_config.json"):
            (Path(folder) / name).write_text("{}")


def bert(layers: int = 2, hidden: int = 32) -> BertForSequenceClassification:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=60, hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=4, intermediate_size=64,
        num_labels=3, id2label={0: "bad", 1: "fair", 2: "good"}, label2id={"bad": 0, "fair": 1, "good": 2},
    )  # fmt: skip
    return BertForSequenceClassification(config).eval()


@pytest.fixture
def leave(tmp_path: Path) -> Callable[[str], Path]:
    def build(name: str) -> Path:
        method = small_method(name)
        model = method.apply(bert(), CONTEXT)
        save_artifact(model, method, folder=tmp_path, tokenizer=NoTokenizer(), context=CONTEXT, base_path="some/base")
        return tmp_path

    return build


@pytest.mark.parametrize("name", FROZEN_BASE)
@pytest.mark.parametrize("other", [{"layers": 1}, {"layers": 3}, {"hidden": 64}], ids=str)
def test_another_base_is_refused(name: str, other: dict[str, int], leave: Callable[[str], Path]) -> None:
    folder = leave(name)
    with pytest.raises(UserError, match="does not fit this base model"):
        load_artifact(lambda: bert(**other), folder)


@pytest.mark.parametrize("name", ["lora", "ia3", "linear_probe", "houlsby_adapter"])
def test_a_missing_or_unknown_tensor_is_refused(name: str, leave: Callable[[str], Path]) -> None:
    folder = leave(name)
    path = folder / "adapter" / "adapter_model.safetensors"
    tensors = load_file(path)
    first = next(iter(tensors))
    save_file({key: value for key, value in tensors.items() if key != first}, path)
    with pytest.raises(UserError, match="does not fit"):
        load_artifact(bert, folder)
    save_file({**tensors, "a.stranger": torch.zeros(1)}, path)
    with pytest.raises(UserError, match="does not fit"):
        load_artifact(bert, folder)
    if (config := folder / "adapter" / "adapter_config.json").is_file():
        config.write_text(json.dumps(json.loads(config.read_text()) | {"target_modules": 3, "rank_pattern": []}))
        with pytest.raises(UserError, match="does not fit"):
            load_artifact(bert, folder)


def test_an_adapter_is_read_onto_no_card(leave: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """peft would take one wherever there is one, and a card that is full, or another one than the run's, too."""
    folder = leave("lora")
    monkeypatch.setattr("peft.peft_model.infer_device", lambda: "cuda")
    model = load_artifact(bert, folder)
    add_adapter(model, folder, "other")
    assert {parameter.device.type for parameter in model.parameters()} == {"cpu"}


@pytest.mark.parametrize("name", ["lora", "prompt_tuning", "bitfit"])
def test_a_truncated_file_is_refused_in_words(name: str, leave: Callable[[str], Path]) -> None:
    path = leave(name) / "adapter" / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(UserError, match="damaged"):
        load_artifact(bert, path.parent.parent)


@pytest.mark.parametrize("name", DISTINCT)
def test_labels_and_tokenizer_travel_with_it(name: str, leave: Callable[[str], Path]) -> None:
    folder = leave(name)
    model = load_artifact(bert, folder)
    assert not model.training
    assert model.config.id2label == {0: "bad", 1: "fair", 2: "good"}
    (artifact,) = folder.iterdir()  # nothing half-written beside it
    assert artifact.name == ("model" if METHODS.get(name).trains_base else "adapter")
    assert (artifact / "tokenizer.json").is_file()
    assert not [path for path in artifact.rglob("*") if path.suffix in {".bin", ".pt", ".pkl"}]


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no adapter"):
        load_artifact(bert, tmp_path)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"architectures": ["OwnModel"], "auto_map": {"AutoModel": "own.OwnModel"}}, "transformers has no such model"),
        ({"architectures": ["RagRetriever"]}, "transformers has no such model"),  # it is there, and no model
        ({"architectures": None}, "transformers has no such model"),
        ({"model_type": "own", "auto_map": {"AutoConfig": "own.OwnConfig"}}, "config cannot be used"),
    ],
)
def test_a_whole_model_is_one_of_transformers(
    changes: dict[str, object], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask(_: str) -> str:
        raise AssertionError("nobody is asked whether code may run")

    monkeypatch.setattr("builtins.input", ask)
    bert().save_pretrained(tmp_path)
    (tmp_path / "own.py").write_text("raise AssertionError('code has run')")
    config = tmp_path / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | changes))
    with pytest.raises(UserError, match=told):
        load_model(tmp_path)


@pytest.mark.parametrize("kind", ["XLORA", "MULTITASK_PROMPT_TUNING"])
def test_an_adapter_loads_no_files_but_its_own(kind: str, leave: Callable[[str], Path]) -> None:
    folder = leave("lora")
    config = folder / "adapter" / "adapter_config.json"
    values = {"adapters": {"0": "stranger/adapter"}, "prompt_tuning_init_state_dict_path": "/elsewhere"}
    config.write_text(json.dumps(json.loads(config.read_text()) | {"peft_type": kind} | values))
    with pytest.raises(UserError, match=f"{kind}, which loads other files than its own"):
        load_artifact(bert, folder)

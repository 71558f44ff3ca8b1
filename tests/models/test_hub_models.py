"""Models from the Hub: config and weight headers are asked for, never the weights. The Hub is played by a folder."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError, NotASafetensorsRepoError

from peftlab.core.errors import SourceError, UnsupportedError
from peftlab.models.facts import read_model_facts


@pytest.fixture
def hub(tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list:
    asked: list = []
    shutil.copy(tiny_bert / "config.json", tmp_path / "config.json")

    def download(hub_id: str, file: str, *, revision=None, local_files_only=False) -> str:
        if not (tmp_path / file).is_file():  # of a tokenizer, which a model need not have
            raise LocalEntryNotFoundError(f"{file} is not cached")
        asked.append((hub_id, file, revision, local_files_only))
        return str(tmp_path / file)

    def metadata(hub_id: str, *, revision=None):
        asked.append((hub_id, "header", revision))
        tensors = {"encoder.layer.0.attention.self.query.weight": SimpleNamespace(shape=[32, 32])}
        return SimpleNamespace(files_metadata={"model.safetensors": SimpleNamespace(tensors=tensors)})

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    monkeypatch.setattr(huggingface_hub, "get_safetensors_metadata", metadata)
    return asked


def test_the_revision_is_asked_for(hub: list) -> None:
    facts = read_model_facts("someone/model", path="someone/model", revision="abc123")
    assert facts.model_type == "bert"
    assert facts.linear_modules() == ["encoder.layer.0.attention.self.query"]
    assert hub == [("someone/model", "config.json", "abc123", False), ("someone/model", "header", "abc123")]


def test_offline_the_local_cache_must_do(hub: list) -> None:
    assert read_model_facts("someone/model", path="someone/model", offline=True).weights is None
    assert hub == [("someone/model", "config.json", None, True)]


def test_what_the_hub_does_not_have(hub: list, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object, **__: object) -> None:
        raise LocalEntryNotFoundError("nothing cached")

    def pickled(*_: object, **__: object) -> None:
        raise NotASafetensorsRepoError("only pytorch_model.bin")

    monkeypatch.setattr(huggingface_hub, "get_safetensors_metadata", pickled)
    with pytest.raises(UnsupportedError, match="no safetensors weights"):
        read_model_facts("someone/model", path="someone/model")
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", missing)
    with pytest.raises(SourceError, match="cannot be reached") as unreachable:
        read_model_facts("someone/model", path="someone/model")
    assert "no such folder" in str(unreachable.value.hint)  # a folder with a slip of the pen looks like an id

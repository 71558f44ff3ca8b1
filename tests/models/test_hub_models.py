"""Models from the Hub: config and weight headers are asked for, never the weights. The Hub is played by a folder."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2
import huggingface_hub
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError, NotASafetensorsRepoError
from huggingface_hub.utils import hf_raise_for_status

from peftlab.core.config import Document
from peftlab.core.errors import SourceError, UnsupportedError
from peftlab.models.facts import read_model_facts
from peftlab.preparation.check import check_model
from peftlab.recipe.schema import build_recipe


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


@pytest.mark.parametrize(
    ("status", "code", "message", "hint"),
    [
        (403, "GatedRepo", "the model is gated", "/someone/model, and log in here: hf auth login"),
        (401, "RepoNotFound", "the Hub has no such model", "taken for an id of the Hub"),
        (404, "RevisionNotFound", "no revision `abc`", "model.revision"),
        (404, "EntryNotFound", "no config.json", "an adapter, whose base is the model to tune, or GGUF files"),
        (500, "", "500", "taken for an id of the Hub"),
    ],
)
def test_what_the_hub_refuses(
    status: int, code: str, message: str, hint: str, hub: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library's own errors, whose first line is a number of a request."""
    address = "https://huggingface.co/someone/model/resolve/abc/config.json"

    def refuse(*_: object, **__: object) -> None:
        headers = {"X-Error-Code": code}
        hf_raise_for_status(httpx2.Response(status, headers=headers, request=httpx2.Request("HEAD", address)))

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", refuse)
    with pytest.raises(SourceError, match=message) as refused:
        read_model_facts("someone/model", path="someone/model", revision="abc")
    assert hint in str(refused.value.hint)
    assert "Client Error" not in str(refused.value)


def refusal(path: Path) -> SourceError:
    values: dict[str, Any] = {
        "model": {"path": str(path)},
        "task": {"type": "text_classification"},
        "data": {"source": "none.csv"},
        "method": {"type": "lora"},
    }
    document = Document(source="test", values=values)
    with pytest.raises(SourceError, match="the folder holds an adapter, and no model") as refused:
        check_model(build_recipe(document, default_name="test"), document, offline=True)
    return refused.value


def test_an_adapter_is_no_model(tiny_run: Any, tmp_path: Path) -> None:
    run = tiny_run()
    assert f"Give the run's folder, {run}" in str(refusal(run / "adapter").hint)
    shutil.copytree(run / "adapter", tmp_path / "adapter")
    assert "Give its base, " in str(refusal(tmp_path / "adapter").hint)
    for damaged in ("{", "[]", "{}"):
        (tmp_path / "adapter" / "adapter_config.json").write_text(damaged)
        assert "Give its base. To start" in str(refusal(tmp_path / "adapter").hint)

"""The fingerprint of a checkpoint: equal for equal tensors, however they lie in files; different once one has changed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from peftlab.models.weights_fingerprint import fingerprint_weights


def tensors() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = {"layers.0.weight": (96, 64), "layers.0.bias": (7,), "layers.1.weight": (96, 64), "scale": ()}
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def write(folder: Path, own: dict[str, torch.Tensor], **metadata: str) -> Path:
    folder.mkdir(exist_ok=True)
    save_file(own, folder / "model.safetensors", metadata=metadata or None)
    return folder


def test_the_same_tensors_in_other_files_are_the_same(tmp_path: Path) -> None:
    own = tensors()
    one = fingerprint_weights(write(tmp_path / "one", own))
    assert fingerprint_weights(write(tmp_path / "noted", own, format="pt", made_by="somebody")) == one
    parts = tmp_path / "parts"
    parts.mkdir()
    names = sorted(own, reverse=True)
    files = {"model-1.safetensors": names[:1], "model-2.safetensors": names[1:]}
    for file, held in files.items():
        save_file({name: own[name] for name in held}, parts / file)
    index = {"weight_map": {name: file for file, held in files.items() for name in held}}
    (parts / "model.safetensors.index.json").write_text(json.dumps(index))
    save_file({"stray": torch.ones(3)}, parts / "adapter_model.safetensors")  # in no index
    assert fingerprint_weights(parts) == one


@given(name=st.sampled_from(sorted(tensors())), how=st.sampled_from(["scaled", "rounded", "shape", "name"]))
def test_what_training_rounding_or_renaming_does_shows(name: str, how: str, tmp_path_factory) -> None:
    own = tensors()
    folder = write(tmp_path_factory.mktemp("weights"), own)
    before = fingerprint_weights(folder)
    changed = {
        "scaled": own[name] * 1.001,
        "rounded": own[name].bfloat16(),
        "shape": own[name].reshape(1, -1),
        "name": own[name],
    }[how]
    if how == "name":
        del own[name]
        name = f"model.{name}"
    assert fingerprint_weights(write(folder, own | {name: changed})) != before


def test_a_gguf_file_is_read_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    file.write_bytes(bytes(range(256)) * 40_000)
    before = fingerprint_weights(file)
    assert before == fingerprint_weights(file)
    file.write_bytes(bytes(range(256)) * 20_000 + bytes(reversed(range(256))) * 20_000)
    assert fingerprint_weights(file) != before


def test_a_folder_without_weights_has_none(tmp_path: Path) -> None:
    assert fingerprint_weights(tmp_path) is None


@pytest.mark.parametrize("place", ["folder", "id"])
def test_a_model_of_the_hub_is_found_in_the_cache(place: str, tiny_bert: Path, tmp_path: Path, monkeypatch) -> None:
    commit = "0" * 40
    snapshot = tmp_path / "models--someone--model" / "snapshots" / commit
    snapshot.parent.mkdir(parents=True)
    snapshot.symlink_to(tiny_bert)
    (tmp_path / "models--someone--model/refs").mkdir()
    (tmp_path / "models--someone--model/refs/main").write_text(commit)
    monkeypatch.setattr("transformers.utils.hub.TRANSFORMERS_CACHE", str(tmp_path), raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert fingerprint_weights("someone/model" if place == "id" else snapshot) == fingerprint_weights(tiny_bert)
    assert load_file(tiny_bert / "model.safetensors")  # it was only read

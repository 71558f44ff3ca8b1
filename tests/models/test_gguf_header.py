"""The config in a GGUF header is the one that transformers makes of it, of every kind of model, before any conversion."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from gguf import GGUFWriter

from peftlab.core.errors import PeftlabError
from peftlab.models.facts import read_model_facts
from peftlab.models.gguf import convert_gguf
from peftlab.models.gguf_header import read_gguf_config

SIZES = {
    "context_length": 96,
    "embedding_length": 32,
    "block_count": 3,
    "feed_forward_length": 48,
    "attention.head_count": 4,
    "attention.head_count_kv": 2,
}


def write_gguf(path: Path, architecture: str, sizes: dict[str, Any], *, tokens: int = 70, tied: bool = True) -> Path:
    writer = GGUFWriter(path, architecture)
    for key, value in sizes.items():
        writer.add_uint32(f"{architecture}.{key}", value)
    writer.add_float32(f"{architecture}.attention.layer_norm_rms_epsilon", 1e-5)
    writer.add_float32(f"{architecture}.rope.freq_base", 10000.0)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([f"t{number}" for number in range(tokens)])
    for name in ["token_embd.weight", *([] if tied else ["output.weight"])]:
        writer.add_tensor(name, np.zeros((tokens, 32), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(
    "architecture", ["llama", "qwen2", "qwen3", "gpt2", "gemma2", "phi3", "starcoder2", "qwen2moe"]
)
def test_the_header_s_config_is_transformers_own(architecture: str, tied: bool, tmp_path: Path) -> None:
    from transformers import AutoConfig

    path = write_gguf(tmp_path / "a.gguf", architecture, SIZES, tied=tied)
    own = read_gguf_config(path)
    built = AutoConfig.for_model(**own).to_dict()
    expected = AutoConfig.from_pretrained(tmp_path, gguf_file="a.gguf").to_dict()
    for made in (built, expected):
        made.pop("_name_or_path", None)
    assert built == expected
    assert (own["vocab_size"], own["tie_word_embeddings"]) == (70, tied)


@pytest.mark.parametrize("missing", ["block_count", "embedding_length"])
def test_a_size_that_is_not_there_is_never_a_default(missing: str, tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "a.gguf", "llama", {key: value for key, value in SIZES.items() if key != missing})
    with pytest.raises(PeftlabError, match=r"does not tell (num_hidden_layers|hidden_size)"):
        read_model_facts(path, path="a.gguf")


def test_an_architecture_that_cannot_be_read_is_refused_before_a_run(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "a.gguf", "whisper", SIZES)
    with pytest.raises(PeftlabError, match="does not read the architecture `whisper`"):
        read_model_facts(path, path="a.gguf")


def test_a_conversion_that_would_fill_the_disk_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_gguf(tmp_path / "a.gguf", "llama", SIZES)
    monkeypatch.setenv("PEFTLAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=8000))
    said: list[str] = []
    with pytest.raises(PeftlabError, match=r"its weights take 8.96 kB, and the cache has 8 kB free") as refused:
        convert_gguf(path, said.append)
    assert "PEFTLAB_CACHE" in str(refused.value)
    assert said == []
    assert not [item for item in (tmp_path / "cache").rglob("*") if item.is_file() and item.suffix != ".lock"]

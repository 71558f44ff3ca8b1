"""A checkpoint that each of several processes writes into a folder of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.torch import load_file
from transformers import BertConfig, BertModel
from transformers.distributed import mixin

from peftlab.models.own_checkpoint import write_checkpoint


def test_it_is_written_in_every_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    model = BertModel(BertConfig(vocab_size=12, **sizes))
    monkeypatch.setattr(mixin, "_is_torch_distributed_initialized", lambda: True)
    monkeypatch.setattr(mixin, "_get_torch_distributed_rank", lambda: 1)
    model.save_pretrained(tmp_path / "theirs")
    assert not list((tmp_path / "theirs").iterdir())  # if this fails, transformers does it itself, and ours can go
    write_checkpoint(model, tmp_path / "ours")
    weights = load_file(tmp_path / "ours/model.safetensors")
    assert {name: tensor.equal(weights[name]) for name, tensor in model.state_dict().items()} == dict.fromkeys(
        weights, True
    )
    assert (tmp_path / "ours/config.json").is_file()
    assert not model.should_save_on_this_rank(True)  # the model is as it was

"""What a checkpoint says of itself beside its weights does not decide how it is trained."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from peftlab.core.task import Head
from peftlab.models.base_model import load_base_model, load_tokenizer
from peftlab.models.model_config import ModelConfig

HEAD = Head("AutoModelForCausalLM", {}, kind="own")


def changed(base: Path, target: Path, file: str, **settings: Any) -> Path:
    shutil.copytree(base, target)
    values = json.loads((target / file).read_text())
    (target / file).write_text(json.dumps({**values, **settings}))
    return target


def load(folder: Path, **options: Any) -> Any:
    config = ModelConfig(path=str(folder), **options)
    base = load_base_model(str(folder), config, HEAD, dtype=torch.float32, dropout=0.0, pad_token_id=0, offline=True)
    return base.model.train()


@pytest.mark.parametrize(
    "settings",
    [
        {"return_dict": False},
        {"output_attentions": True, "output_hidden_states": True},
        {"attn_implementation": "eager"},
        {"resid_pdrop": 0.5, "embd_pdrop": 0.5, "attn_pdrop": 0.5},
        {"layerdrop": 0.9},
        {"pad_token_id": 7, "use_cache": False, "torch_dtype": "bfloat16"},
    ],
    ids=lambda each: next(iter(each)),
)
def test_a_checkpoints_config_changes_no_number(tiny_gpt2: Path, tmp_path: Path, settings: dict[str, Any]) -> None:
    ids = torch.tensor([[5, 6, 7, 8]])
    expected = load(tiny_gpt2)
    model = load(changed(tiny_gpt2, tmp_path / "base", "config.json", **settings))
    assert torch.equal(model(input_ids=ids).logits, expected(input_ids=ids).logits)
    assert model.config._attn_implementation == expected.config._attn_implementation == "sdpa"
    assert model(input_ids=ids).attentions is None


def test_the_recipe_chooses_the_attention(tiny_gpt2: Path) -> None:
    assert load(tiny_gpt2, attention="eager").config._attn_implementation == "eager"


@pytest.mark.parametrize(
    "settings",
    [
        {"padding_side": "left"},
        {"truncation_side": "left"},
        {"split_special_tokens": True},
        {"model_max_length": 4},
        {"clean_up_tokenization_spaces": True},
    ],
    ids=lambda each: next(iter(each)),
)
def test_a_tokenizers_settings_change_no_token(tiny_gpt2: Path, tmp_path: Path, settings: dict[str, Any]) -> None:
    folder = changed(tiny_gpt2, tmp_path / "base", "tokenizer_config.json", **settings)
    ours, plain = (load_tokenizer(str(each), ModelConfig(path="x"), offline=True) for each in (folder, tiny_gpt2))
    texts = ["the film was a day in town", "good <|endoftext|>"]
    for options in ({}, {"truncation": True, "max_length": 4}, {"padding": True}):
        assert ours(texts, **options)["input_ids"] == plain(texts, **options)["input_ids"]


def test_nor_do_lengths_in_its_file(tiny_gpt2: Path, tmp_path: Path) -> None:
    cut = {"direction": "Left", "max_length": 3, "strategy": "LongestFirst", "stride": 0}
    fill = {"strategy": {"Fixed": 9}, "direction": "Left", "pad_to_multiple_of": None, "pad_id": 0}
    fill |= {"pad_type_id": 0, "pad_token": "<|endoftext|>"}
    folder = changed(tiny_gpt2, tmp_path / "base", "tokenizer.json", truncation=cut, padding=fill)
    ours, plain = (load_tokenizer(str(each), ModelConfig(path="x"), offline=True) for each in (folder, tiny_gpt2))
    assert ours("the film was a day in town")["input_ids"] == plain("the film was a day in town")["input_ids"]

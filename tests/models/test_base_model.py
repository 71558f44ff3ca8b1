"""Loading a base: what is new, what pads, and what drops out."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers import (
    AutoModelForSequenceClassification,
    BartConfig,
    ConvNextConfig,
    DistilBertConfig,
    DistilBertModel,
    EsmConfig,
    LlamaConfig,
    MambaConfig,
    ResNetConfig,
)

from peftlab.core.config import Document
from peftlab.core.errors import ConfigError, SourceError, UnsupportedError
from peftlab.core.task import Head
from peftlab.models.base_model import load_base_model, load_tokenizer, prepare_config, resolve_dtype
from peftlab.models.facts import read_model_facts
from peftlab.models.model_config import ModelConfig
from peftlab.recipe.schema import build_recipe
from peftlab.training.accelerator import autocast_dtype

HEAD = Head("AutoModelForSequenceClassification", {"num_labels": 3})
CPU = torch.device("cpu")


def load(folder: Path, *, dropout: float | None = None, head: Head = HEAD, **options):
    torch.manual_seed(0)
    config = ModelConfig(path=str(folder), **options)
    return load_base_model(
        str(folder), config, head, dtype=torch.float32, dropout=dropout, pad_token_id=0, offline=True
    )


def test_new_modules_are_found(tiny_bert: Path, tiny_gpt2: Path, tmp_path: Path) -> None:
    assert load(tiny_bert).head_modules == ("classifier",)
    assert load(tiny_gpt2).head_modules == ("score",)
    DistilBertModel(DistilBertConfig(dim=8, hidden_dim=8, n_layers=1, n_heads=1)).save_pretrained(tmp_path)
    assert load(tmp_path).head_modules == ("classifier", "pre_classifier")
    assert load(tiny_bert, head=Head("AutoModelForTokenClassification", {"num_labels": 3})).head_modules == (
        "classifier",
    )


def test_a_quantised_base_for_the_cpu_is_put_on_no_card(tiny_bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers takes a card wherever there is one, also one that is full or in use."""
    pytest.importorskip("bitsandbytes")
    asked: list[Any] = []
    own = transformers.BertForSequenceClassification.from_pretrained.__func__

    def from_pretrained(kind: Any, *args: Any, **options: Any) -> Any:
        asked.append(options.get("device_map"))
        if asked[-1] == {"": 1}:
            options["device_map"] = {"": "cpu"}  # in the place of the card
        return own(kind, *args, **options)

    monkeypatch.setattr(transformers.BertForSequenceClassification, "from_pretrained", classmethod(from_pretrained))
    for device, place in ((CPU, {"": "cpu"}), (torch.device("cuda", 1), {"": 1}), (None, None)):
        config = ModelConfig(path=str(tiny_bert), quantization="nf4")
        settings = {"dtype": torch.float32, "dropout": None, "pad_token_id": 0, "offline": True, "device": device}
        load_base_model(str(tiny_bert), config, HEAD, **settings)
        assert asked[-1] == place


def test_a_pooler_that_the_checkpoint_lacks_is_new(tiny_bert: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "bert"
    shutil.copytree(tiny_bert, folder)
    weights = {name: w for name, w in load_file(folder / "model.safetensors").items() if "pooler" not in name}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert load(folder).head_modules == ("bert.pooler.dense", "classifier")


def test_a_head_for_other_classes_is_replaced(tiny_bert: Path, tmp_path: Path) -> None:
    AutoModelForSequenceClassification.from_pretrained(tiny_bert, num_labels=7).save_pretrained(tmp_path)
    base = load(tmp_path)
    assert base.model.classifier.weight.shape[0] == 3
    assert base.head_modules == ("classifier",)


def test_a_switch_is_no_rate_of_dropout() -> None:
    """By ``token_dropout`` ESM scales its embeddings, dropout or not: without it a frozen base was another model."""
    config = EsmConfig(vocab_size=33, token_dropout=True, hidden_dropout_prob=0.1)
    prepare_config(config, dropout=0.0, pad_token_id=1)
    assert config.token_dropout is True
    assert config.hidden_dropout_prob == 0.0
    values = {"model": {"path": "none"}, "task": {"type": "text_classification"}, "data": {"source": "none.csv"}}
    recipe = build_recipe(Document(source="test", values={**values, "method": {"type": "full"}}), default_name="test")
    assert not recipe.has_dropout({"token_dropout": True, "hidden_dropout_prob": 0.0})
    assert recipe.has_dropout({"token_dropout": True, "hidden_dropout_prob": 0.1})
    assert recipe.has_dropout({}), "a config that names no rate has those of its type"


def test_dropout_of_a_base_that_has_none_is_refused() -> None:
    """It was taken without a word, and r_drop believed it."""
    for config in (MambaConfig(), ResNetConfig(), ConvNextConfig(drop_path_rate=0.0)):
        prepare_config(config, dropout=0.0, pad_token_id=1)
        with pytest.raises(UnsupportedError, match=rf"model\.dropout is 0\.1, and .* {config.model_type} drop nothing"):
            prepare_config(config, dropout=0.1, pad_token_id=1)
    for config in (LlamaConfig(), ConvNextConfig(drop_path_rate=0.1)):
        prepare_config(config, dropout=0.1, pad_token_id=1)


def test_whole_layers_are_not_left_out_by_dropout() -> None:
    """Of OPT's two layers none was left in a step now and then, and nothing learned."""
    for dropout, rates in ((0.0, (0.0, 0.0, 0.0)), (0.1, (0.1, 0.0, 0.1)), (0.5, (0.5, 0.0, 0.2))):
        config = BartConfig(dropout=0.3, encoder_layerdrop=0.0, decoder_layerdrop=0.2)
        prepare_config(config, dropout=dropout, pad_token_id=1)
        assert (config.dropout, config.encoder_layerdrop, config.decoder_layerdrop) == rates


def test_dropout_is_set_everywhere_or_left(tiny_bert: Path, tiny_gpt2: Path) -> None:
    rates = lambda model: {module.p for module in model.modules() if isinstance(module, torch.nn.Dropout)}  # noqa: E731
    assert rates(load(tiny_bert).model) == {0.1}
    for folder in (tiny_bert, tiny_gpt2):
        assert rates(load(folder, dropout=0.0).model) == {0.0}
    assert load(tiny_gpt2, dropout=0.3).model.config.attn_pdrop == 0.3


def test_the_attention_implementation_is_taken(tiny_bert: Path) -> None:
    assert load(tiny_bert, attention="eager").model.config._attn_implementation == "eager"


def test_a_decoder_gets_a_padding_token(tiny_gpt2: Path) -> None:
    tokenizer = load_tokenizer(str(tiny_gpt2), ModelConfig(path="x"), offline=True)
    assert tokenizer.pad_token == "<|endoftext|>"
    assert tokenizer.padding_side == "right"


def test_what_cannot_be_loaded_is_told(tiny_gpt2: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="tokenizer cannot be loaded"):
        load_tokenizer(str(tmp_path), ModelConfig(path="the/path"), offline=True)
    (tmp_path / "config.json").write_text('{"model_type": "resnet"}')
    with pytest.raises((SourceError, UnsupportedError), match="the/path"):
        load_base_model(
            str(tmp_path),
            ModelConfig(path="the/path"),
            HEAD,
            dtype=torch.float32,
            dropout=None,
            pad_token_id=0,
            offline=True,
        )


def test_facts_without_weights(tiny_bert: Path, tiny_gpt2: Path) -> None:
    facts = read_model_facts(tiny_bert, path="p")
    assert (facts.model_type, facts.family, facts.max_length) == ("bert", "encoder", 64)
    names = facts.linear_modules()
    assert "encoder.layer.0.attention.self.query" in names
    assert not any("embedding" in name for name in names)
    decoder = read_model_facts(tiny_gpt2, path="p")
    assert (decoder.model_type, decoder.family, decoder.max_length) == ("gpt2", "decoder", 64)
    assert not any(name.endswith(("wte", "wpe")) for name in decoder.linear_modules())


def test_quantised_checkpoints_are_refused(tiny_bert: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bert"
    shutil.copytree(tiny_bert, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "quantization_config": {"quant_method": "gptq"}}))
    with pytest.raises(UnsupportedError, match="already quantised \\(gptq\\)"):
        read_model_facts(folder, path="p")


def test_types_of_weights_and_of_computation() -> None:
    assert resolve_dtype("auto", device=CPU, base_is_frozen=True) is torch.float32
    assert resolve_dtype("bfloat16", device=CPU, base_is_frozen=False) is torch.bfloat16
    assert autocast_dtype("auto", device=CPU, weights=torch.float32) is None
    assert autocast_dtype("auto", device=CPU, weights=torch.bfloat16) is torch.bfloat16
    assert autocast_dtype("bfloat16", device=CPU, weights=torch.float32) is torch.bfloat16
    with pytest.raises(ConfigError, match=r"does not go with model\.dtype bfloat16"):
        autocast_dtype("float32", device=CPU, weights=torch.bfloat16)


@pytest.mark.gpu
def test_types_on_cuda() -> None:
    cuda = torch.device("cuda")
    assert resolve_dtype("auto", device=cuda, base_is_frozen=False) is torch.float32
    assert resolve_dtype("auto", device=cuda, base_is_frozen=True) in (torch.bfloat16, torch.float32)

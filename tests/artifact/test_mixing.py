"""Examples with different LoRA adapters in one batch get what each adapter says alone."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import peft
import pytest
import torch
from torch import nn
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    GPT2Config,
    GPT2ForSequenceClassification,
    LlamaConfig,
    LlamaForCausalLM,
)

from peftlab.artifact.hosting import add_adapter
from peftlab.artifact.mixing import NO_CLASS, MixedBatch, let_adapters_mix
from peftlab.core.record import ADAPTER

BERT = BertConfig(
    hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64, vocab_size=60, num_labels=3
)
GPT2 = GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=60, num_labels=3, pad_token_id=0)
LLAMA = LlamaConfig(
    hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64, vocab_size=60, pad_token_id=0
)


def with_adapters(base: nn.Module, targets: list[str], ranks: list[int], **settings) -> peft.PeftModel:
    """Adapters a, b, … that all do something; their heads differ too."""
    names = "abc"[: len(ranks)]
    configs = {
        name: peft.LoraConfig(
            r=rank, lora_alpha=2 * rank + 1, target_modules=targets, init_lora_weights=False, **settings
        )
        for name, rank in zip(names, ranks, strict=True)
    }
    model = peft.get_peft_model(base, configs["a"], adapter_name="a")
    for name in names[1:]:
        model.add_adapter(name, configs[name])
    torch.manual_seed(2)
    for name, parameter in model.named_parameters():
        if "modules_to_save" in name:
            parameter.data = torch.randn_like(parameter)
    let_adapters_mix(model)
    return model.eval()


@pytest.mark.parametrize(
    ("config", "cls", "targets", "settings"),
    [
        (BERT, BertForSequenceClassification, ["query", "value", "dense"], {"task_type": "SEQ_CLS"}),
        (GPT2, GPT2ForSequenceClassification, ["c_attn"], {"task_type": "SEQ_CLS", "fan_in_fan_out": True}),
        (LLAMA, LlamaForCausalLM, ["q_proj", "down_proj"], {"task_type": "CAUSAL_LM"}),
    ],
    ids=["bert", "gpt2", "llama"],
)
@pytest.mark.parametrize("ranks", [[4, 4, 4], [2, 5, 3]])
def test_a_mixed_batch_gives_what_each_adapter_gives_alone(config, cls, targets, settings, ranks) -> None:
    torch.manual_seed(0)
    model = with_adapters(cls(config), targets, ranks, **settings)
    ids = torch.randint(3, 60, (6, 7))
    mask = torch.ones_like(ids)
    mask[1, 4:] = mask[4, 2:] = 0
    names = ["b", "a", "c", "b", "b", "a"]
    with torch.inference_mode():
        mixed = MixedBatch(model, names)(input_ids=ids, attention_mask=mask).logits
        single = MixedBatch(model, ["c"] * 6)(input_ids=ids, attention_mask=mask).logits
        alone = {}
        for name in "abc":
            model.set_adapter(name)
            alone[name] = model(input_ids=ids, attention_mask=mask).logits
    for row, name in enumerate(names):
        torch.testing.assert_close(mixed[row], alone[name][row], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(single, alone["c"], rtol=1e-4, atol=1e-5)
    assert (alone["a"] - alone["b"]).abs().max() > 0.01


def test_alone_the_model_computes_as_before_also_after_an_error() -> None:
    model = with_adapters(BertForSequenceClassification(BERT), ["query"], [4, 4], task_type="SEQ_CLS")
    ids = torch.tensor([[5, 6], [7, 8]])
    model.set_adapter("b")
    with torch.inference_mode():
        before = model(input_ids=ids).logits
        MixedBatch(model, ["a", "a"])(input_ids=ids)
        with pytest.raises(KeyError):
            MixedBatch(model, ["a", "missing"])(input_ids=ids)
        assert torch.equal(model(input_ids=ids).logits, before)


def test_threads_that_compute_different_batches_do_not_mix_them_up() -> None:
    torch.manual_seed(0)
    model = with_adapters(BertForSequenceClassification(BERT), ["query", "value", "dense"], [4, 4], task_type="SEQ_CLS")
    ids = torch.randint(3, 60, (8, 16))
    asked = [["a"] * 8, ["b"] * 8, ["a", "b"] * 4, ["b", "a"] * 4]
    wanted = [MixedBatch(model, names)(input_ids=ids).logits for names in asked]
    assert (wanted[0] - wanted[1]).abs().max() > 0.01

    def compute(turn: int) -> torch.Tensor:
        return MixedBatch(model, asked[turn % 4])(input_ids=ids).logits

    with ThreadPoolExecutor(4) as threads:
        for turn, found in enumerate(threads.map(compute, range(200))):
            torch.testing.assert_close(found, wanted[turn % 4], rtol=1e-4, atol=1e-5)


def test_heads_with_other_numbers_of_classes_share_a_batch(tmp_path) -> None:
    torch.manual_seed(0)
    settings = {"r": 4, "target_modules": ["query"], "init_lora_weights": False, "task_type": "SEQ_CLS"}
    few, many = (
        peft.get_peft_model(
            BertForSequenceClassification(BertConfig(**{**BERT.to_dict(), "num_labels": count})),
            peft.LoraConfig(**settings),
        ).eval()
        for count in (3, 5)
    )
    many.base_model.model.bert.load_state_dict(
        {
            **many.base_model.model.bert.state_dict(),
            **{k: v for k, v in few.base_model.model.bert.state_dict().items() if "lora_" not in k},
        }
    )
    many.save_pretrained(tmp_path / ADAPTER)
    ids = torch.randint(3, 60, (3, 7))
    with torch.inference_mode():
        alone = [model(input_ids=ids).logits for model in (few, many)]
    add_adapter(few, tmp_path, "many")
    let_adapters_mix(few)
    mixed = MixedBatch(few, ["default", "many", "default"])(input_ids=ids).logits
    torch.testing.assert_close(mixed[1], alone[1][1], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(mixed[[0, 2], :3], alone[0][[0, 2]], rtol=1e-4, atol=1e-5)
    assert (mixed[[0, 2], 3:] == NO_CLASS).all()

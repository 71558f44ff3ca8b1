"""The last layer computes the first token only, and nobody can tell."""

from __future__ import annotations

import copy

import peft
import pytest
import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertForTokenClassification,
    ElectraConfig,
    ElectraForSequenceClassification,
    GPT2Config,
    GPT2ForSequenceClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from peftlab.acceleration.first_token import compute_first_token_only
from peftlab.inference.text_vectors import mean_states

SIZES = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64, "vocab_size": 60,
    "pad_token_id": 0, "initializer_range": 0.2, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
}  # fmt: skip


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize(
    ("config", "cls"),
    [
        (BertConfig(**SIZES), BertForSequenceClassification),
        (RobertaConfig(**SIZES), RobertaForSequenceClassification),
        (ElectraConfig(**SIZES, embedding_size=32), ElectraForSequenceClassification),
    ],
    ids=lambda value: getattr(value, "model_type", None),
)
def test_logits_and_gradients_are_the_same(config, cls, attention: str) -> None:
    torch.manual_seed(0)
    whole = cls._from_config(config, attn_implementation=attention)
    cut = copy.deepcopy(whole)
    assert compute_first_token_only(cut)
    ids = torch.randint(3, 60, (4, 9))
    mask = torch.ones_like(ids)
    mask[0, 5:] = mask[2, 3:] = 0
    rows = []
    outputs = []
    last = cut.base_model.encoder.layer[-1]
    last.register_forward_hook(
        lambda _m, _i, output: rows.append((output if torch.is_tensor(output) else output[0]).shape[1])
    )
    last.attention.get_submodule("self").query.register_forward_hook(
        lambda _m, _i, output: rows.append(output.shape[1])
    )
    for model in (whole, cut):
        logits = model(input_ids=ids, attention_mask=mask).logits
        logits.square().sum().backward()
        outputs.append(logits)
    assert rows == [1, 1]
    assert torch.allclose(outputs[0], outputs[1], atol=1e-6)
    for (name, mine), (_, its) in zip(whole.named_parameters(), cut.named_parameters(), strict=True):
        assert torch.allclose(mine.grad, its.grad, atol=1e-5), name


def test_who_asks_for_the_states_of_all_layers_gets_those_of_all_tokens() -> None:
    torch.manual_seed(0)
    whole = BertForSequenceClassification(BertConfig(**SIZES)).eval()
    cut = copy.deepcopy(whole)
    assert compute_first_token_only(cut)
    batch = {"input_ids": torch.randint(3, 60, (4, 9)), "attention_mask": torch.ones(4, 9, dtype=torch.long)}
    batch["attention_mask"][0, 5:] = 0
    wrapped = peft.get_peft_model(copy.deepcopy(cut), peft.LoraConfig(task_type="SEQ_CLS", target_modules=["query"]))
    rows: list[int] = []
    cut.bert.encoder.layer[-1].register_forward_hook(
        lambda _m, _i, output: rows.append((output if torch.is_tensor(output) else output[0]).shape[1])
    )
    for model in (cut, wrapped):
        assert torch.allclose(mean_states(whole, batch), mean_states(model, batch), atol=1e-6)
    assert torch.allclose(whole(**batch).logits, cut(**batch).logits, atol=1e-6)
    assert rows == [9, 1]  # the next pass is as short as before


def test_behind_a_prefix_every_token_asks_and_the_logits_are_the_same() -> None:
    torch.manual_seed(0)
    whole = BertForSequenceClassification(BertConfig(**SIZES))
    cut = copy.deepcopy(whole)
    assert compute_first_token_only(cut)
    ids = torch.randint(3, 60, (4, 9))
    config = peft.PrefixTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=3)
    logits = []
    for model in (whole, cut):
        torch.manual_seed(1)
        logits.append(peft.get_peft_model(model, config).eval()(input_ids=ids).logits)
    assert torch.allclose(*logits, atol=1e-6)


def test_other_models_are_left_alone() -> None:
    decoder = GPT2ForSequenceClassification(GPT2Config(n_embd=8, n_layer=1, n_head=1, vocab_size=20, pad_token_id=0))
    assert not compute_first_token_only(decoder)
    assert not compute_first_token_only(BertForTokenClassification(BertConfig(**SIZES)))

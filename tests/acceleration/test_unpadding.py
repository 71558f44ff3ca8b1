"""Padded and packed batches are computed by their texts: the same numbers, and what they are padded with is left out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import torch
import transformers
from language_models import tiny_decoder
from test_fused import with_lora
from torch import Tensor

from peftlab.acceleration import unpadding, varlen
from peftlab.acceleration.accelerated import accelerated, prepare
from peftlab.acceleration.device import Card, as_if_on
from peftlab.acceleration.texts import TEXTS, find_texts
from peftlab.acceleration.unpadding import PART
from peftlab.acceleration.varlen import Borders
from peftlab.core.splits import Example
from peftlab.tasks.language.decoder import pad_language, shifted
from peftlab.tasks.language.packing import packed
from peftlab.tasks.language.vocabulary_head import labelled_loss
from peftlab.tasks.text_inputs import pad, sequence_logits, text_vectors
from peftlab.training.evaluation import to_device

SIZES = {"vocab_size": 60, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 64,
         "pad_token_id": 0, "initializer_range": 0.3, "num_labels": 3}  # fmt: skip
NAMES = {"distilbert": {"dim": 32, "n_layers": 3, "n_heads": 4, "hidden_dim": 64}}
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
NO_DROPOUT |= {"dropout": 0.0, "attention_dropout": 0.0, "seq_classif_dropout": 0.0, "classifier_dropout_prob": 0.0}


@pytest.fixture(autouse=True)
def _card() -> Iterator[None]:
    with as_if_on(Card("cuda", 80 * 10**9)):
        yield


@pytest.fixture
def any_type(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that takes float64 too."""
    monkeypatch.setattr(unpadding, "why_not", lambda *_: None)


def tiny_encoder(model_type: str, head: str = "AutoModelForSequenceClassification", **settings: Any) -> Any:
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(
        model_type, **{**SIZES, **NAMES.get(model_type, {}), **NO_DROPOUT, **settings}
    )
    return getattr(transformers, head).from_config(config)


def texts(*lengths: int) -> list[Example]:
    torch.manual_seed(2)
    return [{"input_ids": torch.randint(2, 60, (length,)).tolist()} for length in lengths]


def languages(*lengths: int) -> list[Example]:
    return [{**example, "labels": shifted(example["input_ids"], 1)} for example in texts(*lengths)]


def on_card(batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return to_device({key: value.clone() for key, value in batch.items()}, torch.device("cpu"))


def gradients_of(model: Any, loss: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def agree(model: Any, compute: Any, batch: Mapping[str, Tensor]) -> dict[str, int | str]:
    """The same results and gradients, by the texts and plain, in float64."""
    model.double()
    expected = compute(model, dict(batch))
    wanted = gradients_of(model, expected.square().sum())
    widest = []
    layer = next(module for module in model.modules() if isinstance(module, torch.nn.ModuleList))[0]
    with accelerated(model) as parts:
        handle = layer.register_forward_hook(lambda _m, _i, output: widest.append(_states(output).shape[:2]))
        found = compute(model, on_card(batch))
        gradients = gradients_of(model, found.square().sum())
        handle.remove()
    tokens = int(batch["attention_mask"].sum())
    assert set(widest) == {(1, tokens)}
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)  # some models' norms are in float32
    assert gradients.keys() == wanted.keys()
    for name, gradient in gradients.items():
        # Keys' biases move all scores of a query alike: their gradient is nothing but rounding.
        torch.testing.assert_close(gradient, wanted[name], rtol=1e-4, atol=1e-5 * float(wanted[name].abs().max() + 1))
    return parts


def _states(output: Any) -> Tensor:
    return output[0] if isinstance(output, tuple) else output


@pytest.mark.usefixtures("any_type")
@pytest.mark.parametrize("model_type", unpadding.ENCODERS)
def test_encoders(model_type: str) -> None:
    batch = pad(texts(9, 4, 1, 6), 0)
    model = tiny_encoder(model_type).train()
    assert agree(model, sequence_logits, batch)[PART] == 3
    if model_type == "bert":
        prepare(model, "auto")  # the first tokens alone in the last layer
        assert agree(model, sequence_logits, batch)["first_token"] == 1
        model.gradient_checkpointing_enable({"use_reentrant": False})
        agree(with_lora(model, ["query", "value"]), sequence_logits, batch)
        agree(tiny_encoder("bert", "AutoModel", add_pooling_layer=False), text_vectors, batch)


@pytest.mark.usefixtures("any_type")
@pytest.mark.parametrize("model_type", sorted(unpadding.DECODERS))
def test_decoders(model_type: str) -> None:
    model = tiny_decoder(model_type).train()
    model.config.get_text_config().attention_dropout = 0.0
    alone = languages(9, 4, 7, 2)
    agree(model, labelled_loss, pad_language(alone, 0))
    rows = pad_language([packed(alone[:2]), packed(alone[2:])], 0)
    assert agree(model, labelled_loss, rows)[PART] == 2
    with accelerated(model):  # no text sees another, in whatever row it stands
        together = labelled_loss(model, on_card(rows))
        apart = sum(labelled_loss(model, on_card(pad_language([example], 0))) for example in alone)
    torch.testing.assert_close(together, apart, rtol=1e-6, atol=0)


def test_windows_and_groups_of_heads() -> None:
    """Against attention with a mask, head by head."""
    torch.manual_seed(0)
    ends = torch.tensor([0, 5, 6, 13], dtype=torch.int32)
    query, key, value = (torch.randn(13, heads, 8).double() for heads in (4, 2, 2))
    found = varlen.attend(query, key, value, Borders(ends, ends, 7, 7, is_causal=True, window=3, scaling=0.4))
    text = torch.bucketize(torch.arange(13), ends[1:], right=True)
    steps = torch.arange(13)[:, None] - torch.arange(13)
    seen = (text[:, None] == text) & (steps >= 0) & (steps < 3)
    for head in range(4):
        scores = (query[:, head] @ key[:, head // 2].T * 0.4).masked_fill(~seen, -torch.inf)
        torch.testing.assert_close(found[:, head], scores.softmax(-1) @ value[:, head // 2])


def test_where_the_kernel_cannot_be_had_all_is_computed_and_the_record_says_why(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    batch = pad(texts(7, 3), 0)
    cases = [
        (tiny_encoder("bert"), None, "float32, and the kernel takes half precision only"),
        (tiny_encoder("bert", num_attention_heads=16), torch.bfloat16, "heads have 2 numbers"),
        (tiny_encoder("bert", attention_probs_dropout_prob=0.1).train(), torch.bfloat16, "attention has dropout"),
    ]
    for model, kind, reason in cases:
        with (
            torch.autocast("cpu", dtype=kind or torch.bfloat16, enabled=kind is not None),
            accelerated(model) as parts,
        ):
            torch.manual_seed(3)
            found = sequence_logits(model, on_card(batch))
            torch.manual_seed(3)
            plain = sequence_logits(model, batch)
        torch.testing.assert_close(found, plain)
        assert str(parts[PART]).startswith("not taken: ")
        assert reason in str(parts[PART])
    with monkeypatch.context() as patch:
        patch.setattr(varlen, "kernel_agrees", lambda *_: False)
        assert "no kernel for this card" in str(varlen.why_not(torch.device("cuda"), torch.bfloat16, 64, 1))
    # A kernel is taken where it gives the same, and is not where it does not.
    agrees = varlen.kernel_agrees.__wrapped__
    monkeypatch.setattr(varlen, "_kernel", varlen.attend_text_by_text)
    assert agrees("cpu", torch.bfloat16, 16, 2)
    monkeypatch.setattr(varlen, "_kernel", lambda q, k, v, b: varlen.attend_text_by_text(q, k, v, b) * 1.1)
    assert not agrees("cpu", torch.bfloat16, 16, 2)


def test_half_precision_is_no_less_exact_and_gradients_are_there() -> None:
    model, batch = with_lora(tiny_encoder("bert").bfloat16(), "all-linear"), pad(texts(12, 5, 9), 0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        plain = sequence_logits(model, batch)
        with accelerated(model) as parts:
            found = sequence_logits(model, on_card(batch))
    assert parts[PART] == 3
    model.double()
    exact = sequence_logits(model, batch)
    assert float((found - exact).norm()) < 1.5 * float((plain - exact).norm()) + 1e-2 * float(exact.norm())


def test_texts_that_are_not_padded_on_the_right_are_left_as_they_are() -> None:
    for rows in ([[0, 1, 1], [1, 1, 1]], [[1, 0, 1], [1, 1, 1]], [[0, 0, 0], [1, 1, 1]], [[1, 1, 1], [1, 1, 1]]):
        assert find_texts({"attention_mask": torch.tensor(rows)}) is None
    assert find_texts({}) is None
    found = find_texts({"attention_mask": torch.tensor([[1, 1, 0], [1, 1, 1]])})
    assert found is not None
    assert found.places.tolist() == [0, 1, 3, 4, 5]
    assert found.bounds.tolist() == [0, 2, 5]


@pytest.mark.usefixtures("any_type")
def test_states_of_all_layers_and_prefixes_keep_the_batchs_shape() -> None:
    model, batch = tiny_encoder("bert", "AutoModel").eval(), on_card(pad(texts(7, 3), 0))
    with torch.no_grad(), accelerated(model):
        outputs = model(**batch, output_hidden_states=True)
        assert {states.shape for states in outputs.hidden_states} == {(2, 7, 32)}
        wider = torch.cat([torch.ones(2, 2, dtype=torch.long), batch["attention_mask"]], dim=1)
        setattr(wider, TEXTS, getattr(batch["attention_mask"], TEXTS))
        embeds = torch.randn(2, 9, 32)
        assert model(inputs_embeds=embeds, attention_mask=wider).last_hidden_state.shape == (2, 9, 32)


@pytest.mark.gpu
def test_on_a_card_the_kernel_is_there_and_right() -> None:
    for head_size, groups in ((64, 1), (128, 4)):
        assert varlen.why_not(torch.device("cuda"), torch.bfloat16, head_size, groups) is None
    model, batch = tiny_encoder("bert").cuda().bfloat16(), pad(texts(12, 5, 9), 0)
    there = to_device(batch, torch.device("cuda"))
    exact = sequence_logits(tiny_encoder("bert").double(), batch)
    with accelerated(model) as parts:
        found = sequence_logits(model, there)
        found.square().sum().backward()
    assert parts[PART] == 3
    assert float((found.double().cpu() - exact).norm()) < 0.1 * float(exact.norm())

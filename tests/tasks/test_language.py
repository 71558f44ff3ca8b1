"""The head over the vocabulary, only where there are labels, gives what the whole head gives."""

from __future__ import annotations

import copy
import random

import peft
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from language_models import SIZES, tiny_decoder, tiny_masked_model
from torch import nn
from torch.nn import functional

from peftlab.acceleration.accelerated import accelerated
from peftlab.tasks.language import chunked_loss as _chunked
from peftlab.tasks.language import vocabulary_head as _language
from peftlab.tasks.language.chunked_loss import chunked_cross_entropy
from peftlab.tasks.language.decoder import IGNORED, pad_language, shifted
from peftlab.tasks.language.vocabulary_head import labelled_logits, labelled_loss, language_inputs, score_labels


def batch_of(lengths: list[int], *, first: int = 2) -> dict[str, torch.Tensor]:
    generator = random.Random(0)
    rows = [[generator.randrange(2, 60) for _ in range(length)] for length in lengths]
    return pad_language([{"input_ids": ids, "labels": shifted(ids, first)} for ids in rows], 0)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 30), st.integers(1, 40), st.integers(1, 60), st.booleans(), st.sampled_from([0.0, 0.1, 0.6]),
    st.booleans(), st.integers(0, 1000),
)  # fmt: skip
def test_chunks_and_blocks_change_nothing(
    count: int, rows: int, block: int, with_bias: bool, smoothing: float, with_weights: bool, seed: int
) -> None:
    torch.manual_seed(seed)
    values = [torch.randn(count, 8), torch.randn(50, 8), torch.randn(50) if with_bias else None]
    labels = torch.randint(50, (count,))
    weights = torch.randint(2, (count,)).float() if with_weights else None
    results = []
    for chunked in (False, True):
        inputs = [None if value is None else value.clone().requires_grad_() for value in values]
        states, weight, bias = inputs
        if chunked:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(_chunked, "CPU_BLOCK", block)
                loss = chunked_cross_entropy(
                    states, weight, bias, labels, rows, label_smoothing=smoothing, weights=weights
                )
        else:
            logits = functional.linear(states, weight, bias)
            each = functional.cross_entropy(logits, labels, reduction="none", label_smoothing=smoothing)
            loss = (each if weights is None else each * weights).sum()
        (loss / 7).backward()
        results.append([loss, *(value.grad for value in inputs if value is not None)])
    for plain, ours in zip(*results, strict=True):
        assert torch.allclose(plain, ours, atol=1e-4, rtol=1e-5)


def test_gradients_of_half_precision_are_kept_in_it_and_summed_in_full(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks would each round to eight bits else."""
    monkeypatch.setattr(_chunked, "CPU_BLOCK", 4)
    torch.manual_seed(0)
    states, weight, labels = torch.randn(9, 8), torch.randn(50, 8), torch.randint(50, (9,))
    gradients = []
    for kind in (torch.float32, torch.bfloat16):
        inputs = states.bfloat16().to(kind).requires_grad_()
        chunked_cross_entropy(inputs, weight.bfloat16().to(kind), None, labels, 4).backward()
        assert inputs.grad is not None
        assert inputs.grad.dtype == kind
        gradients.append(inputs.grad.float())
    torch.testing.assert_close(gradients[1], gradients[0], rtol=0.02, atol=0.02)


@pytest.mark.parametrize("model_type", ["gpt2", "llama", "gemma2"])
@pytest.mark.parametrize("rows", [1, 5, 10_000])
def test_loss_and_gradients_are_those_of_the_model_itself(
    model_type: str, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_language, "CHUNK_ELEMENTS", 60 * rows)
    model, batch = tiny_decoder(model_type), batch_of([9, 4, 12])
    ours = labelled_loss(model, batch)
    ours.backward()
    gradients = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    # transformers shifts labels itself: give it those of the next place.
    labels = torch.full_like(batch["labels"], IGNORED)
    labels[:, 1:] = batch["labels"][:, :-1]
    terms = int((labels != IGNORED).sum())
    theirs = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=labels).loss * terms
    theirs.backward()
    assert torch.allclose(ours, theirs, rtol=1e-5)
    for name, parameter in model.named_parameters():
        assert torch.allclose(gradients[name], parameter.grad, atol=1e-4, rtol=1e-4), name


def test_a_masked_model_too() -> None:
    model, batch = tiny_masked_model(), batch_of([9, 4, 12])
    inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
    theirs = model(**inputs, labels=batch["labels"]).loss * int((batch["labels"] != IGNORED).sum())
    assert torch.allclose(labelled_loss(model, batch), theirs, rtol=1e-5)


@pytest.mark.parametrize("model_type", ["gpt2", "gemma2"])
def test_logits_and_scores_are_the_models_own(model_type: str) -> None:
    model, batch = tiny_decoder(model_type), batch_of([5, 11])
    with torch.inference_mode():
        whole = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        wanted = batch["labels"] != IGNORED
        assert torch.allclose(labelled_logits(model, batch), whole[wanted], atol=1e-5)
        losses, choices = score_labels(model, batch)
    assert torch.equal(choices, whole[wanted].argmax(-1))
    expected = functional.cross_entropy(whole[wanted], batch["labels"][wanted], reduction="none")
    assert torch.allclose(losses, expected, atol=1e-5)


def test_the_logits_of_prompts_are_never_computed() -> None:
    model, batch = tiny_decoder("llama"), batch_of([30, 30], first=28)
    seen = []
    handle = model.lm_head.register_forward_hook(lambda _module, _inputs, output: seen.append(output.shape[0]))
    labelled_logits(model, batch)
    handle.remove()
    assert seen == [4]  # two tokens of each of the two texts


def test_the_loss_is_computed_in_chunks_while_training_too() -> None:
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**{**SIZES, "vocab_size": 80, "hidden_size": 64}))
    seen = []
    with accelerated(model):
        model.lm_head.register_forward_hook(lambda _module, _inputs, output: seen.append(output.shape[0]))
        labelled_loss(model, batch_of([30, 30], first=28)).backward()
    assert seen == [0]


FAMILIES = [
    "llama",
    "mistral",
    "qwen2",
    "qwen3",
    "gemma",
    "gemma2",
    "olmo2",
    "phi3",
    "smollm3",
    "gpt2",
    "gpt_neox",
    "opt",
]


@pytest.mark.parametrize("attention", [None, "eager"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_text_learns_the_same_whatever_it_is_padded_to(family: str, attention: str | None) -> None:
    padding_changes_nothing(tiny_decoder(family, attention))


def test_models_that_read_both_ways_are_told_what_is_padding() -> None:
    batch = batch_of([4, 19])
    assert "attention_mask" not in language_inputs(tiny_decoder("llama"), batch)
    assert "attention_mask" in language_inputs(tiny_masked_model(), batch)


@pytest.mark.parametrize(
    "config",
    [
        peft.PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3),
        peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3),
        peft.PromptEncoderConfig(task_type="CAUSAL_LM", num_virtual_tokens=3, encoder_hidden_size=8),
    ],
)
@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2"])
def test_behind_virtual_tokens_too(family: str, config: peft.PeftConfig) -> None:
    padding_changes_nothing(peft.get_peft_model(tiny_decoder(family), copy.deepcopy(config)).eval())


def padding_changes_nothing(model: nn.Module) -> None:
    """Texts of three lengths together have the loss that they have alone, and the same gradients."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    together = labelled_loss(model, batch_of([4, 19, 11]))
    expected = torch.autograd.grad(together, trained, allow_unused=True)
    rows = batch_of([4, 19, 11])
    alone = []
    for row, length in enumerate([4, 19, 11]):
        ids, labels = rows["input_ids"][row, :length].tolist(), rows["labels"][row, :length].tolist()
        alone.append(labelled_loss(model, pad_language([{"input_ids": ids, "labels": labels}], 0)))
    total = sum(alone, torch.zeros(()))
    assert torch.allclose(together, total, rtol=1e-5)
    found = torch.autograd.grad(total, trained, allow_unused=True)
    largest = max(float(gradient.abs().max()) for gradient in found if gradient is not None)
    for one, other in zip(expected, found, strict=True):
        assert (one is None) == (other is None)
        if one is not None and other is not None:
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-6 * largest)


def test_no_label_at_all_is_a_loss_of_zero() -> None:
    model = tiny_decoder("gpt2")
    batch = pad_language([{"input_ids": [3] * length, "labels": [IGNORED] * length} for length in (5, 6)], 0)
    loss = labelled_loss(model, batch)
    loss.backward()
    assert float(loss) == 0


def test_labels_are_shifted_from_the_first_wanted_token_on() -> None:
    assert shifted([7, 8, 9, 4], 2) == [IGNORED, 9, 4, IGNORED]
    assert shifted([7, 8, 9, 4], 1) == [8, 9, 4, IGNORED]

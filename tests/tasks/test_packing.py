"""Packed examples do not see each other: equal logits, equal loss, on every implementation of attention."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from language_models import tiny_decoder

from peftlab.core.errors import UnsupportedError
from peftlab.core.model_facts import ModelFacts
from peftlab.tasks.language.decoder import pad_language, shifted
from peftlab.tasks.language.packing import PACKABLE, check_packing, pack, packed
from peftlab.tasks.language.vocabulary_head import labelled_logits, labelled_loss


def examples_of(lengths: list[int]) -> list[dict]:
    generator = random.Random(1)
    rows = [[generator.randrange(2, 60) for _ in range(length)] for length in lengths]
    return [{"input_ids": ids, "labels": shifted(ids, 1)} for ids in rows]


KINDS = [(name, attention) for name in sorted(PACKABLE) for attention in ("eager", "sdpa")]


@pytest.mark.parametrize(("model_type", "attention"), [kind for kind in KINDS if kind != ("gemma2", "sdpa")])
def test_packed_logits_are_the_unpacked_ones(model_type: str, attention: str) -> None:
    model, examples = tiny_decoder(model_type, attention), examples_of([7, 3, 1, 9, 2])
    rows = [[0, 2, 1], [3, 4]]
    with torch.inference_mode():
        for row in rows:
            together = labelled_logits(model, pad_language([packed([examples[at] for at in r]) for r in rows], 0))
            alone = torch.cat([labelled_logits(model, pad_language([examples[at]], 0)) for r in rows for at in r])
            assert torch.allclose(together, alone, atol=2e-5), (row, (together - alone).abs().max())


def _flash_varlen(q, k, v, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, dropout_p=0.0, softmax_scale=None,
                  causal=False, window_size=(-1, -1), softcap=0.0):  # fmt: skip
    """What flash_attn_varlen_func is documented to compute: tokens × heads × head size, one text after the other."""
    assert cu_seqlens_q.dtype == torch.int32
    assert int((cu_seqlens_q[1:] - cu_seqlens_q[:-1]).max()) <= max_seqlen_q
    pieces = []
    for begin, end in pairwise(cu_seqlens_q.tolist()):
        queries, keys, values = (part[begin:end].transpose(0, 1) for part in (q, k, v))
        keys, values = (part.repeat_interleave(len(queries) // len(part), dim=0) for part in (keys, values))
        scores = queries @ keys.mT * (softmax_scale or queries.shape[-1] ** -0.5)
        if softcap:
            scores = softcap * torch.tanh(scores / softcap)
        seen = torch.ones(end - begin, end - begin, dtype=torch.bool)
        seen = seen.tril() if causal else seen
        if window_size[0] >= 0:
            seen = seen.triu(-window_size[0])
        pieces.append((scores.masked_fill(~seen, -torch.inf).softmax(-1) @ values).transpose(0, 1))
    return torch.cat(pieces)


def _flash(q, k, v, **options):
    rows, length = q.shape[:2]
    bounds = torch.arange(0, rows * length + 1, length, dtype=torch.int32)
    flat = (part.reshape(-1, *part.shape[2:]) for part in (q, k, v))
    return _flash_varlen(*flat, bounds, bounds, length, length, **options).view_as(q)


@pytest.fixture
def flash_on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers' own path to FlashAttention, with its kernels written in plain PyTorch at the end."""
    from transformers import modeling_flash_attention_utils as flash
    from transformers.integrations import flash_attention

    # The kernels take half precision; these take float32, in which a difference can be told.
    monkeypatch.setattr(flash_attention, "get_target_dtype", lambda query, module: None)
    functions = (_flash, _flash_varlen, None, flash._pad_input, flash._unpad_input)
    process = flash._lazy_define_process_function(_flash_varlen)
    monkeypatch.setattr(flash, "lazy_import_flash_attention", lambda *_, **__: (functions, (process, process)))


@pytest.mark.usefixtures("flash_on_cpu")
@pytest.mark.parametrize("model_type", sorted(PACKABLE))
def test_flash_attention_keeps_texts_of_several_packed_rows_apart(model_type: str) -> None:
    model, examples = tiny_decoder(model_type, "eager"), examples_of([7, 3, 1, 9, 2, 5])
    rows = [[0, 2, 1], [3, 4], [5]]
    batch = pad_language([packed([examples[at] for at in row]) for row in rows], 0)
    with torch.inference_mode():
        alone = torch.cat([labelled_logits(model, pad_language([examples[at]], 0)) for row in rows for at in row])
        model.config._attn_implementation = "flash_attention_2"
        together = labelled_logits(model, batch)
        leaking = labelled_logits(model, {key: value for key, value in batch.items() if key != "text_bounds"})
    assert torch.allclose(together, alone, atol=2e-5), (together - alone).abs().max()
    assert (leaking - alone).abs().max() > 0.01, "the bounds make no difference: FlashAttention was not asked"


@pytest.mark.usefixtures("flash_on_cpu")
@pytest.mark.parametrize("count", [1, 2])
def test_flash_attention_takes_no_step_back_in_positions_for_a_border(count: int) -> None:
    """Positions of a machine's cells go back and forth within one text."""
    model, (example,) = tiny_decoder("llama", "eager"), examples_of([9])
    batch = pad_language([{**example, "position_ids": [3, 4, 5, 0, 1, 2, 0, 6, 7]}] * count, 0)
    with torch.inference_mode():
        expected = labelled_logits(model, batch)
        model.config._attn_implementation = "flash_attention_2"
        assert torch.allclose(labelled_logits(model, batch), expected, atol=2e-5)


@pytest.mark.parametrize("model_type", ["gpt2", "llama"])
def test_packed_training_has_the_same_loss_and_gradients(model_type: str) -> None:
    model, examples = tiny_decoder(model_type), examples_of([7, 3, 9, 2, 12, 4])
    losses, gradients = [], []
    for batch in (
        pad_language(examples, 0),
        pad_language([packed([examples[at] for at in row]) for row in pack(examples, 16)], 0),
    ):
        model.zero_grad()
        loss = labelled_loss(model, batch) / 31
        loss.backward()
        losses.append(loss.detach())
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in model.parameters()]))
    assert abs(float(losses[0] - losses[1])) <= 1e-5
    assert torch.allclose(*gradients, atol=1e-5)


def test_without_borders_the_logits_would_differ() -> None:
    """The test above could fail: this is what leaking looks like."""
    model, examples = tiny_decoder("llama"), examples_of([7, 6])
    row = packed(examples)
    leaking = pad_language([{"input_ids": row["input_ids"], "labels": row["labels"]}], 0)
    with torch.inference_mode():
        difference = labelled_logits(model, leaking) - labelled_logits(model, pad_language([row], 0))
    assert difference.abs().max() > 0.01


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 20), min_size=1, max_size=60))
def test_every_example_is_in_one_row_that_is_not_too_long(lengths: list[int]) -> None:
    rows = pack(examples_of(lengths), 20)
    assert sorted(at for row in rows for at in row) == list(range(len(lengths)))
    filled = [sum(lengths[at] for at in row) for row in rows]
    assert max(filled) <= 20
    # No two rows could be one: best fit leaves none such.
    assert len(filled) == 1 or sum(sorted(filled)[:2]) > 20


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 20), max_size=60))
def test_each_example_goes_into_the_fullest_row_that_takes_it(lengths: list[int]) -> None:
    rows: list[list[int]] = []
    left: list[tuple[int, int]] = []  # what became fullest last comes first among equals
    for at in sorted(range(len(lengths)), key=lambda at: (-lengths[at], at)):
        fitting = [entry for entry in left if entry[0] >= lengths[at]]
        entry = min(reversed(fitting), key=lambda entry: entry[0], default=None)
        if entry is None:
            rows.append([])
            entry = (20, len(rows) - 1)
        else:
            left.remove(entry)
        rows[entry[1]].append(at)
        left.append((entry[0] - lengths[at], entry[1]))
    assert pack(examples_of(lengths), 20) == rows


def test_a_model_that_may_look_across_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="bloom keeps packed examples apart"):
        check_packing(ModelFacts("x", "bloom", "decoder", {}))

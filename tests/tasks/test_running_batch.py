"""Texts that others join while they are written are those that each prompt gets alone."""

from __future__ import annotations

from types import SimpleNamespace

import peft
import pytest
import torch
from language_models import Reading, tiny_decoder, tiny_encoder_decoder

from peftlab.tasks.language.generation import generate_tokens
from peftlab.tasks.language.running_batch import RunningBatch, RunningText, can_be_joined

TOKENIZER = SimpleNamespace(eos_token_id=1, pad_token_id=0)
PROMPTS = [[5, 9, 30], [7], [11, 12, 13, 14, 15, 16, 17], [8, 8], [40, 3, 22], [5] * 40]


def drain(batch: RunningBatch) -> list[RunningText]:
    ended = []
    while len(batch):
        ended += batch.step()
    return ended


@pytest.mark.parametrize("model_type", ["gpt2", "llama", "qwen3", "gpt_neox"])
def test_whoever_joins_gets_the_text_of_one_who_is_alone(model_type: str) -> None:
    model = tiny_decoder(model_type)
    if model_type == "llama":
        model = peft.get_peft_model(model, peft.LoraConfig(task_type="CAUSAL_LM", init_lora_weights=False)).eval()
    reading = Reading(TOKENIZER)
    lengths = [3, 12, 7, 20, 1, 30]  # the last one meets the end of the positions
    unending = [
        generate_tokens(model, [prompt], reading, max_new_tokens=length, ends=[])[0]
        for prompt, length in zip(PROMPTS, lengths, strict=True)
    ]
    end = unending[3][6]  # some text ends in the middle, by itself
    alone = [text[: text.index(end)] if end in text else text for text in unending]
    assert can_be_joined(model, reading)
    batch, shown = RunningBatch(model, reading, [end]), {}
    texts = [
        RunningText(prompt, length, on_tokens=lambda ids, at=at: shown.update({at: list(ids)}))
        for at, (prompt, length) in enumerate(zip(PROMPTS, lengths, strict=True))
    ]
    ended: list[RunningText] = []
    for text, steps in zip(texts, [2, 1, 3, 0, 5, 0], strict=True):
        batch.add(text)
        for _ in range(steps):
            ended += batch.step()
    ended += drain(batch)
    assert [text.ids for text in texts] == alone
    assert [shown.get(at, []) for at in range(len(texts))] == alone
    assert sorted(map(id, ended)) == sorted(map(id, texts))
    assert len({len(text) for text in alone}) > 3, "texts that end together would prove little"


def test_newcomers_do_not_hold_up_the_others() -> None:
    model, reading = tiny_decoder("llama"), Reading(TOKENIZER)
    batch = RunningBatch(model, reading, [])
    batch._read_tokens = 20
    first = RunningText([5, 6], 60)
    batch.add(first)
    batch.step()
    late = [RunningText([7] * 10, 4) for _ in range(6)]
    for text in late:
        batch.add(text)
    begun = []
    for _ in range(3):
        before = len(first.ids)
        batch.step()
        assert len(first.ids) == before + 1
        begun.append(sum(bool(text.ids) for text in late))
    assert begun == [2, 4, 6], "as many are read in a step as fit, in the order of coming"


def test_a_text_that_nobody_wants_leaves_and_changes_no_other() -> None:
    model, reading = tiny_decoder("gpt2"), Reading(TOKENIZER)
    (alone,) = generate_tokens(model, [[7]], reading, max_new_tokens=12, ends=[])
    batch, wanted = RunningBatch(model, reading, []), [True, True]
    kept = RunningText([7], 12)
    left = RunningText([5] * 20, 30, is_wanted=lambda: wanted[0])
    never = RunningText([5] * 20, 30, is_wanted=lambda: wanted[1])
    none = RunningText([5] * 64, 3)  # there is no position left
    for text in (left, kept, none):
        batch.add(text)
    for _ in range(3):
        batch.step()
    wanted[:] = [False, False]
    batch.add(never)
    assert set(batch.step()) == {left, never}
    drain(batch)
    assert (kept.ids, never.ids, none.ids) == (alone, [], [])
    assert len(left.ids) == 4


def test_texts_are_drawn_each_at_its_own_temperature() -> None:
    model, reading = tiny_decoder("gpt2"), Reading(TOKENIZER)
    (greedy,) = generate_tokens(model, [[7]], reading, max_new_tokens=8, ends=[])
    batch = RunningBatch(model, reading, [])
    texts = [RunningText([7], 8, temperature) for temperature in (0.0, *[9.0] * 6)]
    for text in texts:
        batch.add(text)
    drain(batch)
    assert texts[0].ids == greedy
    assert len({tuple(text.ids) for text in texts[1:]}) > 3


@pytest.mark.parametrize("temperature", [1e-7, 1e-39, 1e-320])
def test_the_coldest_texts_are_the_most_likely_ones(temperature: float) -> None:
    """Logits that are divided by such a temperature are no numbers, which would end everybody's texts."""
    model, reading = tiny_decoder("gpt2"), Reading(TOKENIZER)
    (greedy,) = generate_tokens(model, [[7]], reading, max_new_tokens=8, ends=[])
    batch, text = RunningBatch(model, reading, []), RunningText([7], 8, temperature)
    batch.add(text)
    drain(batch)
    assert text.ids == greedy
    assert generate_tokens(model, [[7]], reading, max_new_tokens=8, ends=[], temperature=temperature) == [greedy]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_text_whose_logits_are_no_numbers_fails_alone(temperature: float) -> None:
    model, reading = tiny_decoder("gpt2"), Reading(TOKENIZER)
    with torch.no_grad():
        model.transformer.wte.weight[50] = float("nan")
    model.lm_head.weight = torch.nn.Parameter(torch.nan_to_num(model.lm_head.weight.detach(), nan=-1e3))
    (alone,) = generate_tokens(model, [[7]], reading, max_new_tokens=8, ends=[])
    batch, kept, broken = RunningBatch(model, reading, []), RunningText([7], 8), RunningText([50, 8], 8, temperature)
    for text in (kept, broken):
        batch.add(text)
    drain(batch)
    assert (broken.has_failed, broken.ids) == (True, [])
    assert (kept.has_failed, kept.ids) == (False, alone)


def test_models_whose_texts_cannot_stand_side_by_side_are_known() -> None:
    assert not can_be_joined(tiny_decoder("gemma2"), Reading(TOKENIZER)), "a window of attention"
    assert not can_be_joined(tiny_decoder("llama"), Reading(TOKENIZER, virtual_tokens=2))
    assert not can_be_joined(tiny_encoder_decoder("t5"), Reading(TOKENIZER))
    stretched = tiny_decoder("llama")
    stretched.model.rotary_emb.rope_type = "dynamic"
    assert not can_be_joined(stretched, Reading(TOKENIZER)), "frequencies of the longest text in a batch"

"""Many prompts at a time write what each writes alone, token by token, without a cache; with every method."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import peft
import pytest
import torch
import transformers
from language_models import Reading, tiny_decoder

from peftlab.core.errors import UnsupportedError
from peftlab.core.method import Method, MethodContext
from peftlab.core.model_facts import ModelFacts
from peftlab.tasks.language.generation import generate_tokens
from tests.small_methods import DISTINCT, small_method

PROMPTS = [[5, 9, 30], [7], [11, 12, 13, 14, 15, 16, 17], [8, 8], [40, 3, 22]]
TOKENIZER = SimpleNamespace(eos_token_id=1, pad_token_id=0)


@pytest.fixture(params=DISTINCT)
def method(request: pytest.FixtureRequest) -> Method:
    return small_method(request.param)


@pytest.mark.parametrize("model_type", ["gpt2", "llama"])
def test_batches_write_what_single_prompts_write(method: Method, model_type: str) -> None:
    base = tiny_decoder(model_type)
    context = MethodContext("CAUSAL_LM", 10, head_modules=(), family="decoder")
    facts = ModelFacts("tiny", model_type, "decoder", base.config.to_dict(), None, "CAUSAL_LM")
    try:
        method.check(facts)
        model = method.apply(base, context)
    except UnsupportedError as error:
        assert method.registered_name in ("linear_probe", "bitfit"), error
        pytest.skip(f"refused: {error.message}")
    torch.manual_seed(3)
    for parameter in model.parameters():  # an adapter that does nothing would prove nothing
        if parameter.requires_grad and not method.trains_base:
            parameter.data += 0.3 * torch.randn_like(parameter)
    model.eval()
    reading = Reading(TOKENIZER, virtual_tokens=method.extra_positions())
    with torch.inference_mode():
        together = generate_tokens(model, PROMPTS, reading, max_new_tokens=6)
        alone = [step_by_step(model, prompt, 6) for prompt in PROMPTS]
        twice = generate_tokens(model, PROMPTS, reading, max_new_tokens=6, copies=2)
    assert together == alone
    assert twice == [text for text in together for _ in range(2)]
    assert len({tuple(text) for text in together}) > 1


def step_by_step(model: torch.nn.Module, prompt: list[int], count: int) -> list[int]:
    """Greedy decoding as its definition says, with a whole forward pass for each token."""
    ids = list(prompt)
    for _ in range(count):
        batch = {"input_ids": torch.tensor([ids]), "attention_mask": torch.ones(1, len(ids), dtype=torch.long)}
        token = int(model(**batch).logits[0, -1].argmax())
        if token == TOKENIZER.eos_token_id:
            break
        ids.append(token)
    return ids[len(prompt) :]


def test_a_text_ends_at_its_end_token() -> None:
    model, reading = tiny_decoder("gpt2"), Reading(TOKENIZER)
    shown: dict[int, list[int]] = {}
    with torch.inference_mode():
        unending = generate_tokens(model, PROMPTS, reading, max_new_tokens=40, ends=[])

        def cut(end: int) -> list[list[int]]:
            return [text[: text.index(end)] if end in text else text for text in unending]

        # A token at which some texts end before others, whatever this random model writes.
        end = next(
            each
            for each in sorted({token for text in unending for token in text})
            if len({len(text) for text in cut(each)}) > 1
        )
        written = generate_tokens(
            model, PROMPTS, reading, max_new_tokens=40, ends=[end], on_row=lambda at, ids: shown.update({at: list(ids)})
        )
    assert written == cut(end)
    assert [shown.get(at, []) for at in range(len(PROMPTS))] == written


@pytest.mark.parametrize("model_type", ["gpt2", "llama"])
def test_a_text_ends_where_the_models_positions_end(model_type: str) -> None:
    model = tiny_decoder(model_type)
    positions = model.config.max_position_embeddings
    prompts = [*PROMPTS, [5] * (positions - 1), [5] * positions]
    unending = SimpleNamespace(eos_token_id=model.config.vocab_size - 1, pad_token_id=0)
    with torch.inference_mode():
        model.get_output_embeddings().weight[unending.eos_token_id] = 0
        written = generate_tokens(model, prompts, Reading(unending), max_new_tokens=positions + 5)
    assert [len(text) for text in written] == [positions - len(prompt) for prompt in prompts]


THEIRS = [
    {"do_sample": True, "temperature": 3.0, "top_k": 5, "num_beams": 3, "length_penalty": 2.0},
    {"no_repeat_ngram_size": 1},
    {"min_new_tokens": 8, "max_length": 3},
    {"suppress_tokens": list(range(2, 40))},
    {"begin_suppress_tokens": list(range(2, 58))},
    {"bad_words_ids": [[token] for token in range(2, 50)]},
    {"sequence_bias": [[[5], 100.0]]},
    {"forced_bos_token_id": 7, "forced_eos_token_id": 9},
    {"repetition_penalty": 5.0, "encoder_repetition_penalty": 3.0},
    {"exponential_decay_length_penalty": (0, 50.0)},
    {"stop_strings": ["a"], "guidance_scale": 3.0, "prompt_lookup_num_tokens": 2},
    {"eos_token_id": list(range(60)), "pad_token_id": 5, "use_cache": False},
]


@pytest.mark.parametrize("theirs", THEIRS, ids=lambda each: next(iter(each)))
def test_the_checkpoints_own_settings_change_nothing(theirs: dict[str, Any]) -> None:
    model, prompts = tiny_decoder("llama"), [[5, 6, 7, 8], [9, 10]]
    tokenizer = SimpleNamespace(eos_token_id=1, pad_token_id=1)
    expected = generate_tokens(model, prompts, Reading(tokenizer), max_new_tokens=6)
    own = transformers.GenerationConfig(**theirs)
    model.generation_config = own
    assert generate_tokens(model, prompts, Reading(tokenizer), max_new_tokens=6) == expected
    wrapped = peft.get_peft_model(model, peft.LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj"]))
    assert generate_tokens(wrapped, prompts, Reading(tokenizer), max_new_tokens=6) == expected
    assert model.generation_config is own, "it is the checkpoint's again, to be saved with it"

"""The balance loss of a mixture's routers, against the loss of transformers' own model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from peftlab.core.errors import UnsupportedError
from peftlab.testing.training_jobs import TASKS, checked, gradients_of, job_of
from peftlab.training.gradients import accumulate_gradients, make_batches

SIZES: dict[str, Any] = {
    "vocab_size": 40, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2,
    "intermediate_size": 24, "initializer_range": 0.3, "num_experts_per_tok": 2, "router_aux_loss_coef": 0.5,
}  # fmt: skip
CONFIGS: dict[str, Any] = {
    "mixtral": lambda: transformers.MixtralConfig(**SIZES, num_local_experts=4),
    "qwen3_moe": lambda: transformers.Qwen3MoeConfig(**SIZES, moe_intermediate_size=24, num_experts=4, head_dim=16),
    "gpt_oss": lambda: transformers.GptOssConfig(**SIZES, num_local_experts=4, head_dim=16),
    "granitemoe": lambda: transformers.GraniteMoeConfig(**SIZES, num_local_experts=4),
}
TASK = TASKS["instruction_tuning"][1]
FULL, BALANCE = {"type": "full"}, {"type": "router_balance"}

pytestmark = pytest.mark.slow


def base_of(family: str, folder: Path, **config: Any) -> Path:
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(CONFIGS[family]())
    model.save_pretrained(folder)
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | config))
    return folder


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("family", CONFIGS)
def test_loss_and_gradients_are_those_of_transformers(family: str, checkpointing: bool, tmp_path: Path) -> None:
    """Labels shifted and padding left out; nothing is named in the recipe."""
    folder = base_of(family, tmp_path, output_router_logits=True)
    ready = checked(folder, TASK, [], method=FULL, training__gradient_checkpointing=checkpointing)
    assert [each.registered_name for each in ready.recipe.training.regularizers] == ["router_balance"]
    job = job_of(ready)
    batches = make_batches(job, [[0, 1, 2, 3]])
    found = float(accumulate_gradients(job, batches))
    own = transformers.AutoModelForCausalLM.from_pretrained(folder)
    assert own.config.output_router_logits
    labels = batches[0]["labels"].roll(1, dims=1)
    expected = own(input_ids=batches[0]["input_ids"], attention_mask=batches[0]["attention_mask"], labels=labels)
    assert float(expected.aux_loss.detach()) > 0.2
    assert found == pytest.approx(float(expected.loss.detach()), rel=1e-5)
    expected.loss.backward()
    gradients = gradients_of(job)
    for name, parameter in own.named_parameters():
        torch.testing.assert_close(gradients[name], parameter.grad, rtol=1e-3, atol=1e-5, msg=name)
    ids, model = batches[0]["input_ids"], job.model.eval()
    first = model(input_ids=ids[:, :4], use_cache=True)
    # A router's logits of one token and a mask of five ended runs that write texts.
    model(input_ids=ids[:, 4:5], attention_mask=torch.ones_like(ids[:, :5]), past_key_values=first.past_key_values)


def test_several_batches_of_a_step_have_their_mean(tmp_path: Path) -> None:
    """Each weighed by its labels; the given coefficient is taken, and adapters before a frozen router get gradients."""
    folder = base_of("granitemoe", tmp_path)
    jobs = [job_of(checked(folder, TASK, part)) for part in ([], [BALANCE | {"coefficient": 2.0}])]
    found = []
    for job in jobs:
        batches = make_batches(job, [[0, 1, 2, 3], [4, 5, 6]])
        found.append(float(accumulate_gradients(job, batches)))
    own = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    parts = [
        (len(each["label_rows"]), own(each["input_ids"], each["attention_mask"], output_router_logits=True).aux_loss)
        for each in batches
    ]
    mean = float(sum(count * each.detach() for count, each in parts)) / sum(count for count, _ in parts)
    assert found[1] - found[0] == pytest.approx(2 * mean, rel=1e-4)
    plain, balanced = (gradients_of(job) for job in jobs)
    assert not torch.allclose(*(each["base_model.model.model.layers.0.self_attn.v_proj.lora_B.default.weight"]
                                for each in (plain, balanced)))  # fmt: skip
    assert "with weight 2" in jobs[1].hooks.notices()["router_balance"]


def test_virtual_tokens_count_and_zero_switches_it_off(tmp_path: Path) -> None:
    folder = base_of("mixtral", tmp_path, output_router_logits=True)
    losses = []
    for coefficient in (0, None):
        section = BALANCE | {"coefficient": coefficient}
        job = job_of(checked(folder, TASK, [section], method={"type": "prompt_tuning", "num_virtual_tokens": 3}))
        losses.append(float(accumulate_gradients(job, make_batches(job, [[0, 1, 2]]))))
    assert losses[1] > losses[0] + 0.1


def test_what_has_no_balance_loss_is_refused(tiny_gpt2: Path, tmp_path: Path) -> None:
    """A router that does not train is left alone where the config does not ask for its loss."""
    with pytest.raises(UnsupportedError, match="has no experts"):
        checked(tiny_gpt2, TASK, [BALANCE])
    folder = base_of("mixtral", tmp_path, output_router_logits=True)
    classes = TASKS["text_classification"][1]
    with pytest.raises(UnsupportedError, match="has another head"):
        checked(folder, classes, [BALANCE])
    assert not checked(folder, classes, []).recipe.training.regularizers  # nor does transformers add it there
    plain = base_of("mixtral", tmp_path, output_router_logits=False)
    assert not checked(plain, TASK, []).recipe.training.regularizers
    assert len(checked(plain, TASK, [], method=FULL).recipe.training.regularizers) == 1

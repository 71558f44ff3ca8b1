"""Regularisers of weights and of their rates, against what their papers say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.func import functional_call
from transformers import (
    CLIPConfig,
    CLIPModel,
    ConvNextConfig,
    ConvNextForImageClassification,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

from peftlab.core.errors import UnsupportedError
from peftlab.regularizers.layer_wise_decay import LayerWiseDecay
from peftlab.regularizers.mixout import LEVELS, _drawn_levels
from peftlab.testing.training_jobs import TASKS, checked, gradients_of, job_of
from peftlab.training.best_state import restore_best
from peftlab.training.checkpoints import trainable_parameters
from peftlab.training.gradients import accumulate_gradients
from peftlab.training.loop import optimizer_step, train
from peftlab.training.optimizers import set_learning_rate
from peftlab.training.steps import Step
from tests.regularizers.test_ema import watched_job

TASK = TASKS["text_classification"][1]


def test_swa_leaves_the_mean_of_the_last_weights(tmp_path: Path, tiny_bert: Path) -> None:
    job = watched_job(tmp_path, tiny_bert, None, regularizer={"type": "swa", "start": 0.5})
    restore_best(job, train(job))
    for name, value in trainable_parameters(job.model).items():
        wanted = torch.stack([weights[name] for weights in job.seen[3:]]).mean(dim=0)
        torch.testing.assert_close(value.detach(), wanted, rtol=1e-5, atol=1e-6)


def test_a_mean_that_has_not_begun_is_told(tmp_path: Path, tiny_bert: Path) -> None:
    for start, told in ((0.5, {}), (0.9, {"swa": "ended with step 4, and the mean begins after step 5"})):
        job = watched_job(
            tmp_path / str(start), tiny_bert, [0.9, 0.8, 0.7], regularizer={"type": "swa", "start": start}
        )
        job = replace(job, config=job.config.model_copy(update={"early_stopping_patience": 1}))
        progress = train(job)
        assert (progress.step, progress.stopped_early) == (4, True)
        found = job.hooks.notices()
        assert found.keys() == told.keys()
        assert all(told[name] in text for name, text in found.items())


def moved_job(tiny_bert: Path, regularizers: list[dict]):
    """A job whose trained weights are no longer where they started."""
    job = job_of(checked(tiny_bert, TASK, regularizers))
    start = {name: value.detach().clone() for name, value in trainable_parameters(job.model).items()}
    torch.manual_seed(1)
    with torch.no_grad():
        for value in trainable_parameters(job.model).values():
            value.add_(torch.randn_like(value), alpha=0.05)
    return job, start


def test_l2_sp_pulls_to_the_start(tiny_bert: Path) -> None:
    (plain, _), (ours, start) = moved_job(tiny_bert, []), moved_job(tiny_bert, [{"type": "l2_sp", "alpha": 0.3}])
    for job in (plain, ours):
        batches = [job.task.collate(part, 0) for part in (job.split.examples[:5], job.split.examples[5:])]
        accumulate_gradients(job, batches)
    wanted, found = gradients_of(plain), gradients_of(ours)
    for name, value in trainable_parameters(ours.model).items():
        own = wanted[name] + 0.3 * (value.detach() - start[name])
        torch.testing.assert_close(found[name], own, rtol=1e-4, atol=1e-6)


def test_mixout_is_the_papers(tiny_bert: Path) -> None:
    """Equation 5, by torch's own functional call with the same masks."""
    job, start = moved_job(tiny_bert, [{"type": "mixout", "probability": 0.4}])
    weights = {name: value.detach().clone() for name, value in trainable_parameters(job.model).items()}
    batch = job.task.collate(list(job.split.examples), 0)
    torch.manual_seed(4)
    accumulate_gradients(job, [batch])
    found = gradients_of(job)
    torch.manual_seed(4)
    limit = round(0.6 * LEVELS)
    share = limit / LEVELS
    own = {name: value.clone().requires_grad_() for name, value in weights.items()}
    mixed = dict(own)
    for name, value in own.items():
        if value.ndim > 1:
            taken = (_drawn_levels(value) >= limit - LEVELS // 2).float()
            mixed[name] = (taken * start[name] + (1 - taken) * value - (1 - share) * start[name]) / share
    inputs = {key: batch[key] for key in ("input_ids", "attention_mask")}
    logits = functional_call(job.model, mixed, (), inputs).logits
    torch.nn.functional.cross_entropy(logits, batch["labels"]).backward()
    for name, value in own.items():
        torch.testing.assert_close(found[name], value.grad, rtol=1e-4, atol=1e-6)
        assert torch.equal(job.model.get_parameter(name), weights[name]), "the weights themselves are back"


def test_mixout_draws_every_weight_alike() -> None:
    """Four are drawn at once: each of the four is as likely to be taken as another, and none goes by its neighbour."""
    torch.manual_seed(7)
    drawn = _drawn_levels(torch.empty(1000, 1001))
    assert drawn.shape == (1000, 1001)
    for share in (0.1, 0.5, 0.9):
        kept = (drawn.flatten() < round(share * LEVELS) - LEVELS // 2).double()
        spread = (share * (1 - share) / (len(kept) / 4)) ** 0.5
        for place in range(4):
            assert abs(kept[place::4].mean() - share) < 4 * spread
        for apart in range(1, 5):
            assert abs((kept[:-apart] * kept[apart:]).mean() - share**2) < 4 * spread
    torch.manual_seed(7)
    assert torch.equal(_drawn_levels(torch.empty(1000, 1001)), drawn)
    assert _drawn_levels(torch.empty(1, 3)).shape == (1, 3)


def test_a_penalty_is_of_the_weights_themselves_under_mixout(tiny_bert: Path) -> None:
    """Of mixed weights, with masked gradients, it would be nearly twice as strong."""
    spectral, mixout = {"type": "spectral", "strength": 5.0}, {"type": "mixout"}
    found = []
    for regularizers in ([], [spectral], [mixout], [mixout, spectral]):
        job, _ = moved_job(tiny_bert, regularizers)
        torch.manual_seed(4)
        accumulate_gradients(
            job, [job.task.collate(part, 0) for part in (job.split.examples[:5], job.split.examples[5:])]
        )
        found.append(gradients_of(job))
    plain, with_spectral, with_mixout, with_both = found
    for name, value in with_both.items():
        own = with_spectral[name] - plain[name]
        torch.testing.assert_close(value - with_mixout[name], own, rtol=1e-3, atol=1e-5)
    assert any((with_spectral[name] - plain[name]).norm() > 0.1 for name in plain)


def rates_of(job) -> dict[str, float]:
    """Each parameter's rate in a step whose rate is 1."""
    set_learning_rate(job.optimizer, 1.0)
    rates = {id(p): group["lr"] for group in job.optimizer.param_groups for p in group["params"]}
    return {name: rates[id(p)] for name, p in trainable_parameters(job.model).items()}


def test_b_learns_faster_than_a(tiny_bert: Path) -> None:
    ready = checked(tiny_bert, TASK, [{"type": "lora_plus", "ratio": 8}])
    assert ready.recipe.training.learning_rate == pytest.approx(2e-4)
    rates = rates_of(job_of(ready))
    assert {rate for name, rate in rates.items() if "lora_B" in name} == {8.0}
    assert {rate for name, rate in rates.items() if "lora_B" not in name} == {1.0}
    with pytest.raises(UnsupportedError, match="houlsby_adapter has no low-rank updates"):
        checked(tiny_bert, TASK, [{"type": "lora_plus"}], method={"type": "houlsby_adapter"})


def test_lower_layers_learn_slower(tiny_bert: Path, tiny_gpt2: Path) -> None:
    for model, layer in ((tiny_bert, "encoder.layer.{}."), (tiny_gpt2, "transformer.h.{}.")):
        ready = checked(model, TASK, [{"type": "layer_wise_decay", "decay": 0.5}], method={"type": "full"})
        rates = rates_of(job_of(ready))
        for number, rate in ((0, 0.25), (1, 0.5)):
            assert {value for name, value in rates.items() if layer.format(number) in name} == {rate}
        tables = {value for name, value in rates.items() if "embeddings." in name or ".wte." in name or ".wpe." in name}
        assert tables == {0.125}
        assert {value for name, value in rates.items() if name.startswith(("classifier", "score"))} == {1.0}
    with pytest.raises(UnsupportedError, match="trained parameters in two layers or more"):
        job_of(checked(tiny_bert, TASK, [{"type": "layer_wise_decay"}], method={"type": "linear_probe"}))


def test_a_head_that_is_called_an_embedding_keeps_its_rate() -> None:
    """GPT-NeoX calls its output layer `embed_out`: it learned slower than all layers below it."""
    sizes = {"vocab_size": 20, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2}
    model = GPTNeoXForCausalLM(GPTNeoXConfig(**sizes, intermediate_size=16, max_position_embeddings=16))
    factors = LayerWiseDecay(decay=0.5).rate_factors(model)
    assert "embed_out.weight" not in factors
    assert factors["gpt_neox.embed_in.weight"] == 0.125
    tied = GPT2LMHeadModel(GPT2Config(vocab_size=20, n_embd=8, n_layer=2, n_head=2, n_positions=16))
    assert LayerWiseDecay(decay=0.5).rate_factors(tied)["transformer.wte.weight"] == 0.125


def test_encoder_and_decoder_count_their_layers_from_their_own_top() -> None:
    """T5's embeddings, called `shared`, kept the rate of a head, and a short decoder that of the encoder's first layers."""
    config = T5Config(d_model=8, d_kv=4, d_ff=16, num_layers=3, num_decoder_layers=1, num_heads=2, vocab_size=20)
    factors = LayerWiseDecay(decay=0.5).rate_factors(T5ForConditionalGeneration(config))
    for stack, layer, factor in (("encoder", 0, 0.125), ("encoder", 2, 0.5), ("decoder", 0, 0.5)):
        assert factors[f"{stack}.block.{layer}.layer.0.SelfAttention.q.weight"] == factor
    assert factors["shared.weight"] == 0.0625
    assert "decoder.final_layer_norm.weight" not in factors


def test_towers_count_their_layers_from_their_own_top() -> None:
    sizes = {"hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 16}
    text = {**sizes, "num_hidden_layers": 1, "vocab_size": 20, "bos_token_id": 1, "eos_token_id": 2}
    vision = {**sizes, "num_hidden_layers": 3, "image_size": 8, "patch_size": 4}
    factors = LayerWiseDecay(decay=0.5).rate_factors(CLIPModel(CLIPConfig(text_config=text, vision_config=vision)))
    assert factors["text_model.encoder.layers.0.mlp.fc1.weight"] == 0.5
    assert factors["text_model.embeddings.token_embedding.weight"] == 0.25
    assert factors["vision_model.encoder.layers.0.mlp.fc1.weight"] == 0.125
    assert factors["vision_model.embeddings.patch_embedding.weight"] == 0.0625


def test_stages_of_convolutions_are_layers() -> None:
    config = ConvNextConfig(hidden_sizes=[4, 4, 4, 4], depths=[1, 2, 1, 1], num_labels=2)
    factors = LayerWiseDecay(decay=0.5).rate_factors(ConvNextForImageClassification(config))
    assert factors["convnext.encoder.stages.3.layers.0.dwconv.weight"] == 0.5
    assert factors["convnext.encoder.stages.1.layers.1.dwconv.weight"] == 0.125


def test_together_they_multiply_and_a_step_is_taken(tiny_bert: Path) -> None:
    job = job_of(checked(tiny_bert, TASK, [{"type": "lora_plus"}, {"type": "layer_wise_decay", "decay": 0.5}]))
    rates = rates_of(job)
    assert {rate for name, rate in rates.items() if "layer.0" in name and "lora_B" in name} == {4.0}
    loss, *_ = optimizer_step(job, Step(1, 0, [[0, 1]], ends_epoch=False))
    assert torch.isfinite(loss)

"""LoRA of a mixture's experts, which transformers holds as one tensor for each layer, and of the layers beside them."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers
from torch import Tensor
from torch.func import functional_call

from peftlab.acceleration.accelerated import accelerated
from peftlab.artifact.compose import compose
from peftlab.artifact.hosting import can_share_batches
from peftlab.artifact.load_artifact import load_artifact
from peftlab.artifact.merge import merge
from peftlab.artifact.save import save_artifact
from peftlab.core.errors import UnsupportedError
from peftlab.core.method import METHODS, MethodContext
from peftlab.core.model_facts import ModelFacts
from peftlab.measurement.roofline import fit_step_flops
from peftlab.methods.lora import Lora
from peftlab.models.facts import read_model_facts
from peftlab.models.model_config import ModelConfig
from peftlab.models.skeleton import build_skeleton
from peftlab.regularizers.spectral import Spectral
from peftlab.tasks.causal_lm import CausalLm
from peftlab.testing.tiny_models import NoTokenizer

pytestmark = pytest.mark.slow

SIZES = {
    "vocab_size": 40, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2,
    "initializer_range": 0.3, "pad_token_id": 0,
}  # fmt: skip
PARTS = {"moe_intermediate_size": 24, "intermediate_size": 40, "num_experts_per_tok": 2}
BUILDERS: dict[str, Any] = {
    "mixtral": lambda: transformers.MixtralConfig(
        **SIZES, intermediate_size=24, num_local_experts=4, num_experts_per_tok=2
    ),
    "qwen3_moe": lambda: transformers.Qwen3MoeConfig(**SIZES, **PARTS, num_experts=4, head_dim=16),
    # Matrices the other way round, with biases, and gates between the others.
    "gpt_oss": lambda: transformers.GptOssConfig(
        **SIZES, intermediate_size=24, num_local_experts=4, num_experts_per_tok=2, head_dim=16
    ),
    # A dense layer, then one with a shared expert beside the others.
    "deepseek_v3": lambda: transformers.DeepseekV3Config(
        **SIZES, **PARTS, n_routed_experts=4, n_group=1, topk_group=1, first_k_dense_replace=1, q_lora_rank=8,
        kv_lora_rank=8, qk_rope_head_dim=8, qk_nope_head_dim=8, v_head_dim=8,
    ),
}  # fmt: skip
FAMILIES = sorted(BUILDERS)
CONTEXT = MethodContext("CAUSAL_LM", 4, family="decoder")
EXPERTS = Lora(rank=4, target_parameters="all-experts")
TEXTS = torch.arange(1, 25).reshape(2, 12)


def base_of(family: str) -> Any:
    torch.manual_seed(0)
    return transformers.AutoModelForCausalLM.from_config(BUILDERS[family]()).eval()


def tuned(family: str, method: Any = EXPERTS, seed: int = 1) -> Any:
    """With updates that are no longer zero."""
    model = method.apply(base_of(family), CONTEXT).eval()
    torch.manual_seed(seed)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.3)
    return model


def logits_of(model: Any) -> Tensor:
    with torch.no_grad():
        return model(input_ids=TEXTS).logits


def saved(model: Any, folder: Path, method: Any = EXPERTS) -> Path:
    return save_artifact(model, method, folder=folder, tokenizer=NoTokenizer(), context=CONTEXT, base_path="some/base")


def wrappers(model: Any) -> dict[str, Any]:
    """By the full names of the experts' tensors."""
    found = {}
    for name, module in model.base_model.model.named_modules():
        if isinstance(module, peft.tuners.lora.layer.ParamWrapper):
            found[f"{name.replace('.base_layer', '')}.{module.parameter_name}"] = module
    return found


def naive_matrices(matrices: Tensor, down: Tensor, up: Tensor, *, transposed: bool) -> Tensor:
    """Each expert's W + s B A, one after the other: A's rows by expert, B's columns by rank."""
    count = len(matrices)
    made = []
    for expert in range(count):
        update = 2 * up[:, expert::count] @ down[expert * 4 : (expert + 1) * 4]
        made.append(matrices[expert] + (update.T if transposed else update))
    return torch.stack(made)


@pytest.mark.gpu
@pytest.mark.parametrize("family", FAMILIES)
def test_on_a_card_experts_are_peft_s(family: str) -> None:
    """By torch's grouped products; a token may be sent elsewhere after rounding, so most of them count."""
    model, texts = tuned(family, Lora(rank=8, target_parameters="all-experts")).to("cuda", torch.bfloat16), TEXTS.cuda()
    expected = model(input_ids=texts).logits.detach().float()
    with accelerated(model) as parts:
        found = model(input_ids=texts).logits.float()
        found.log_softmax(-1)[..., 3].sum().backward()
    assert parts["lora_experts"]
    assert float(((found - expected).norm(dim=-1) / expected.norm(dim=-1)).median()) < 0.05
    for wrapper in wrappers(model).values():
        assert 0 < float(wrapper.lora_A["default"].weight.grad.norm()) < float("inf")


@pytest.mark.parametrize("fast", [False, True], ids=["peft", "accelerated"])
@pytest.mark.parametrize("family", FAMILIES)
def test_outputs_and_gradients_are_those_of_experts_one_by_one(family: str, fast: bool) -> None:
    method = Lora(rank=4, alpha=8, target_modules=["q_proj"] if family != "deepseek_v3" else ["q_b_proj"],
                  target_parameters="all-experts")  # fmt: skip
    model, naive = tuned(family, method), base_of(family)
    naive.set_experts_implementation("eager")
    naive.load_state_dict({n.replace(".base_layer", ""): t for n, t in model.base_model.model.state_dict().items()
                           if "lora_" not in n})  # fmt: skip
    for name, module in model.base_model.model.named_modules():
        if isinstance(module, peft.tuners.lora.Linear):
            naive.get_submodule(name).weight.data += module.get_delta_weight("default")
    leaves, matrices = {}, {}
    for name, wrapper in wrappers(model).items():
        down, up = (
            part["default"].weight.detach().clone().requires_grad_() for part in (wrapper.lora_A, wrapper.lora_B)
        )
        leaves[name] = (down, up)
        matrices[name] = naive_matrices(naive.get_parameter(name), down, up, transposed=family == "gpt_oss")
    assert len(matrices) == (2 if family == "deepseek_v3" else 4)
    expected = functional_call(naive, matrices, kwargs={"input_ids": TEXTS}).logits
    expected.log_softmax(-1)[..., 3].sum().backward()
    if fast:
        with accelerated(model) as parts:
            found = model(input_ids=TEXTS).logits
            found.log_softmax(-1)[..., 3].sum().backward()
        assert parts["lora_experts"] == len(matrices)
    else:
        found = model(input_ids=TEXTS).logits
        found.log_softmax(-1)[..., 3].sum().backward()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    for name, wrapper in wrappers(model).items():
        own = (wrapper.lora_A["default"].weight.grad, wrapper.lora_B["default"].weight.grad)
        torch.testing.assert_close(own, tuple(leaf.grad for leaf in leaves[name]), rtol=1e-3, atol=1e-4)
        assert wrapper.get_param().grad is None


@pytest.mark.parametrize("family", FAMILIES)
def test_experts_are_saved_reloaded_and_merged(family: str, tmp_path: Path) -> None:
    model = tuned(family)
    guard = EXPERTS.guards(model, CONTEXT)["target_modules_matched"]
    assert guard.status == "passed"
    assert "tensors of experts: down_proj × " in guard.detail
    assert "out of reach" not in guard.detail
    before = logits_of(model)
    assert not torch.allclose(before, logits_of(base_of(family)), atol=1e-2)
    adapter = saved(model, tmp_path)
    again = load_artifact(lambda: base_of(family), tmp_path)
    torch.testing.assert_close(logits_of(again), before)
    assert not can_share_batches(again)
    plain = peft.PeftModel.from_pretrained(base_of(family), adapter).eval()
    torch.testing.assert_close(logits_of(plain), before, rtol=1e-4, atol=1e-4)
    merged = merge(again, EXPERTS)
    torch.testing.assert_close(logits_of(merged), before, rtol=1e-4, atol=1e-4)
    merged.save_pretrained(tmp_path / "merged")
    loaded = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "merged").eval()
    torch.testing.assert_close(logits_of(loaded), before, rtol=1e-4, atol=1e-4)


def test_layers_that_peft_takes_for_experts_are_those_that_are_named(tmp_path: Path) -> None:
    """peft left the shared expert and the dense layer out, and put updates of twice the rank on the experts."""
    method = Lora(rank=4, dropout=0.1)
    model = tuned("deepseek_v3", method)
    adapted = set(model.base_model.targeted_module_names)
    assert "model.layers.0.mlp.gate_proj" in adapted
    assert "model.layers.1.mlp.shared_experts.down_proj" in adapted
    assert not wrappers(model)
    detail = method.guards(model, CONTEXT)["target_modules_matched"].detail
    assert "out of reach, as several matrices in one tensor: experts.gate_up_proj, experts.down_proj" in detail
    before, adapter = logits_of(model), saved(model, tmp_path, method)
    again = load_artifact(lambda: base_of("deepseek_v3"), tmp_path)
    torch.testing.assert_close(logits_of(again), before)
    assert set(again.base_model.targeted_module_names) == adapted
    plain = peft.PeftModel.from_pretrained(base_of("deepseek_v3"), adapter).eval()
    torch.testing.assert_close(logits_of(plain), before, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(logits_of(merge(again, method)), before, rtol=1e-4, atol=1e-4)


def test_the_mean_of_runs_with_experts_is_that_of_their_updates(tmp_path: Path) -> None:
    models = [tuned("mixtral", seed=seed) for seed in (1, 2, 3)]
    parts = [dict(peft.get_peft_model_state_dict(model)) for model in models]
    tensors, changes = EXPERTS.soup(parts, {"r": 4, "lora_alpha": 16})
    assert changes == {"r": 12, "lora_alpha": 48}
    mean = Lora(rank=12, alpha=48, target_parameters="all-experts").apply(base_of("mixtral"), CONTEXT)
    peft.set_peft_model_state_dict(mean, tensors)
    for name, wrapper in wrappers(mean).items():
        updates = [wrappers(model)[name].get_delta_weight("default") for model in models]
        torch.testing.assert_close(wrapper.get_delta_weight("default"), torch.stack(updates).mean(0))
    own = [{n: w.get_delta_weight("default") for n, w in wrappers(model).items()} for model in models[:2]]
    composed = compose(models[:2], [1.0, 0.5], "linear", density=1.0, seed=0)
    for name, matrices in base_of("mixtral").named_parameters():
        if name in own[0]:
            expected = matrices + own[0][name] + 0.5 * own[1][name]
            torch.testing.assert_close(composed.get_parameter(name), expected)


def test_the_norm_that_spectral_holds_small_is_that_of_each_expert() -> None:
    model = tuned("mixtral", Lora(rank=4, target_modules=["q_proj"], target_parameters=["gate_up_proj"]))
    updates = [wrapper.get_delta_weight("default") for wrapper in wrappers(model).values()]
    updates += [m.get_delta_weight("default")[None] for m in model.modules() if type(m) is peft.tuners.lora.Linear]
    spectral = Spectral(strength=2.0)
    spectral.begin(model, CONTEXT)
    for step in range(60):
        spectral.after_step(model, step)
    expected = sum(float(torch.linalg.matrix_norm(each.detach(), 2).square().sum()) for each in updates)
    assert float(spectral.penalty(model)) == pytest.approx(expected, rel=1e-2)


def test_only_the_experts_that_are_used_cost_flops() -> None:
    """Grouped products were not counted at all."""
    found = {}
    for experts in (4, 16):
        torch.manual_seed(0)
        config = transformers.MixtralConfig(**SIZES, intermediate_size=24, num_local_experts=experts)
        model = EXPERTS.apply(transformers.MixtralForCausalLM(config), CONTEXT)

        def step(length: int, texts: int, model: Any = model) -> None:
            model(input_ids=torch.ones(texts, length, dtype=torch.long)).logits.sum().backward()

        with accelerated(model):
            found[experts] = fit_step_flops(step, [8, 16, 24])
    # Forward and backward by inputs, of two of the experts, in two layers; and the router, which does not train.
    of_experts = 2 * 2 * 2 * 2 * (32 * 48 + 24 * 32)
    assert found[4].linear > of_experts
    of_router = 2 * 2 * 2 * 12 * 32
    assert found[16].linear - found[4].linear == pytest.approx(of_router, abs=1)


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"dropout": 0.1}, "`dropout` does not work with `target_parameters`"),
        ({"dora": True}, "`dora` does not work with"),
        ({"initialization": "pissa"}, "`initialization` does not work with"),
        ({"target_parameters": []}, "it is empty"),
        ({"target_parameters": "experts"}, "all-experts"),
    ],
)
def test_what_pefts_update_of_experts_has_not_is_refused(keys: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Lora(**{"target_parameters": "all-experts"} | keys)


def test_a_hybrid_whose_config_has_an_infinite_number_is_reloaded(tmp_path: Path) -> None:
    """Every run of Granite 4 or Mamba 2 failed where its adapter was read again."""
    config = transformers.GraniteMoeHybridConfig(
        **SIZES, intermediate_size=24, shared_intermediate_size=24, num_local_experts=4, num_experts_per_tok=2,
        layer_types=["mamba", "attention"], mamba_n_heads=4, mamba_d_head=16, mamba_d_state=8, mamba_n_groups=1,
        mamba_chunk_size=8,
    )  # fmt: skip
    torch.manual_seed(0)
    base = transformers.GraniteMoeHybridForCausalLM(config).eval()
    base.save_pretrained(tmp_path / "base")
    facts = read_model_facts(tmp_path / "base", path="tiny")
    assert facts.config["time_step_limit"] == [0.0, float("inf")]
    assert build_skeleton(facts, ModelConfig(path="tiny"), CausalLm().head(()), dtype=torch.float32, dropout=0.0).model
    model = EXPERTS.apply(copy.deepcopy(base), CONTEXT).eval()
    saved(model, tmp_path)
    again = load_artifact(lambda: copy.deepcopy(base), tmp_path)
    torch.testing.assert_close(logits_of(again), logits_of(model))


def test_what_no_update_fits_is_no_linear_layer() -> None:
    """A router that gives two tensors, and a matrix that kernels read past its layer, ended runs with a traceback."""
    configs = [
        transformers.Llama4TextConfig(
            **SIZES, intermediate_size=24, intermediate_size_mlp=24, num_local_experts=4, num_experts_per_tok=1,
            head_dim=16,
        ),
        transformers.MambaConfig(vocab_size=40, hidden_size=32, num_hidden_layers=1, state_size=4),
    ]  # fmt: skip
    for config in configs:
        model = Lora(rank=4).apply(transformers.AutoModelForCausalLM.from_config(config), CONTEXT)
        names = {name.rpartition(".")[2] for name in model.base_model.targeted_module_names}
        assert names
        assert not names & {"router", "out_proj"}
        model(input_ids=TEXTS).logits.sum().backward()


HYBRIDS: dict[str, Any] = {
    "mamba": lambda: transformers.MambaConfig(vocab_size=40, hidden_size=32, num_hidden_layers=1, state_size=4),
    "jamba": lambda: transformers.JambaConfig(
        **SIZES, intermediate_size=24, num_experts=2, num_experts_per_tok=1, attn_layer_period=2, attn_layer_offset=1,
        expert_layer_period=2, expert_layer_offset=1, mamba_d_state=4, mamba_dt_rank=4,
    ),
    "gemma3n": lambda: transformers.Gemma3nTextConfig(
        **SIZES, vocab_size_per_layer_input=40, hidden_size_per_layer_input=8, num_kv_shared_layers=0, head_dim=16,
        layer_types=["sliding_attention", "full_attention"], intermediate_size=24, laurel_rank=4, sliding_window=8,
        activation_sparsity_pattern=[0.0, 0.0],
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("family", "left"),
    [("mamba", "dt_proj × 1, x_proj × 1"), ("jamba", "dt_proj × 1"), ("gemma3n", "correction_coefs × 2")],
)
def test_all_linear_leaves_out_what_learns_nothing(family: str, left: str) -> None:
    """Each of the others gets a gradient; before, the guard ended such runs."""
    torch.manual_seed(0)
    model = Lora(rank=4).apply(transformers.AutoModelForCausalLM.from_config(HYBRIDS[family]()), CONTEXT).train()
    for name, parameter in model.named_parameters():
        if "lora_B" in name or name.endswith("correct_output_scale"):  # the latter is 0 before a model is trained
            parameter.data.normal_(std=0.3)
    model(input_ids=TEXTS).logits.log_softmax(-1)[..., 3].sum().backward()
    trained = {name: each.grad for name, each in model.named_parameters() if each.requires_grad}
    assert trained
    assert not [name for name, grad in trained.items() if grad is None or not grad.any()]
    detail = Lora(rank=4).guards(model, CONTEXT)["target_modules_matched"].detail
    assert f"left out, as the model reads them past their layers: {left}" in detail


@pytest.mark.parametrize("name", ["eva", "corda", "lora_ga", "loftq", "o_lora"])
def test_kin_of_lora_that_know_no_experts_refuse_them(name: str) -> None:
    with pytest.raises(ValueError, match="target_parameters"):
        METHODS[name](target_parameters="all-experts")


def test_experts_that_there_are_not_are_refused() -> None:
    config = transformers.LlamaConfig(**SIZES, intermediate_size=24)
    with pytest.raises(UnsupportedError, match="has no experts"):
        EXPERTS.apply(transformers.LlamaForCausalLM(config), CONTEXT)
    shapes = {"model.layers.0.self_attn.q_proj.weight": (32, 32)}
    with pytest.raises(UnsupportedError, match="has no experts") as caught:
        EXPERTS.check(ModelFacts("tiny", "llama", "decoder", {"vocab_size": 40}, shapes))
    assert caught.value.where == "method.target_parameters"
    with pytest.raises(UnsupportedError, match="`up_gate_proj` matches no tensor of experts") as caught:
        Lora(target_parameters=["up_gate_proj"]).apply(base_of("mixtral"), CONTEXT)
    assert "gate_up_proj" in str(caught.value.hint)
    with pytest.raises(UnsupportedError, match="for which it has no DoRA"):
        Lora(dora=True).apply(base_of("deepseek_v3"), CONTEXT)
    with pytest.raises(UnsupportedError, match="`w1` matches no linear layer") as caught:
        Lora(target_modules=["w1"]).apply(base_of("mixtral"), CONTEXT)
    assert "method.target_parameters: all-experts" in str(caught.value.hint)


def test_a_frozen_a_of_experts_stays(tmp_path: Path) -> None:
    model = METHODS["lora_fa"](rank=4, target_parameters="all-experts").apply(base_of("qwen3_moe"), CONTEXT)
    copied = copy.deepcopy(model)
    with accelerated(model):
        model(input_ids=TEXTS).logits.sum().backward()
    copied(input_ids=TEXTS).logits.sum().backward()
    for one, other in zip(wrappers(model).values(), wrappers(copied).values(), strict=True):
        assert one.lora_A["default"].weight.grad is None
        torch.testing.assert_close(
            one.lora_B["default"].weight.grad, other.lora_B["default"].weight.grad, rtol=1e-3, atol=1e-4
        )

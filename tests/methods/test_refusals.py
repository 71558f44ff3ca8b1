"""What a model cannot take is said before the training, and what it can take is not refused."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import transformers
from peft.utils import constants
from safetensors.torch import load_file, save_file

from peftlab.artifact.load_artifact import load_artifact
from peftlab.artifact.save import save_artifact
from peftlab.core.errors import ConfigError, UnsupportedError, UserError
from peftlab.core.method import METHODS, MethodContext
from peftlab.core.model_facts import ModelFacts
from peftlab.methods import ia3
from peftlab.methods._targets import check_targets, resolve_targets
from peftlab.methods.adalora import AdaLora
from peftlab.methods.houlsby_adapter import HoulsbyAdapter
from peftlab.methods.lora import Lora
from peftlab.methods.prefix_tuning import PrefixTuning
from peftlab.models.model_config import ModelConfig
from peftlab.models.quantization import check_quantization
from peftlab.testing.tiny_models import COMMON, KINDS, SIZES, NoTokenizer, toy_batch
from tests.methods.test_contract import NOT_TRANSPOSED
from tests.small_methods import PEFT_ADAPTERS

KIND = {kind.name: kind for kind in KINDS}
BARE = ModelFacts("tiny", "bert", "encoder", {}, {"encoder.layer.0.attention.self.query.weight": (32, 32)})


def test_ia3_is_refused_by_validate_where_pefts_table_ends() -> None:
    assert set(constants.TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING) == ia3.KNOWN_MODEL_TYPES
    with pytest.raises(UnsupportedError, match="mobilebert") as caught:
        ia3.Ia3().check(ModelFacts("tiny", "mobilebert", "encoder", {}))
    assert "method.target_modules" in str(caught.value.hint)


def test_ia3_says_that_it_does_not_know_a_model_whose_layers_have_other_names_now() -> None:
    """It said that `w2` matches nothing, a name that no recipe holds."""
    config = transformers.MixtralConfig(**SIZES, vocab_size=60, num_key_value_heads=2, num_local_experts=2)
    with pytest.raises(UnsupportedError, match=r"which layers .* in a mixtral model"):
        ia3.Ia3().apply(transformers.MixtralForCausalLM(config), MethodContext("CAUSAL_LM", 1))


@pytest.mark.parametrize("kind", sorted(ia3.OWN_NAMES))
def test_the_names_of_ia3_are_those_of_the_layers(kind: str) -> None:
    assert kind not in ia3.KNOWN_MODEL_TYPES
    config = transformers.AutoConfig.for_model(kind, num_hidden_layers=1)
    with torch.device("meta"):
        model = transformers.AutoModel.from_config(config)
    targets, feedforward = ia3.OWN_NAMES[kind]
    assert resolve_targets(model, targets, MethodContext(None, 1))
    assert set(feedforward) <= set(targets)


@pytest.mark.parametrize("kind", ["gpt2", "openai-gpt"])
def test_validate_says_what_does_not_know_transposed_matrices(kind: str) -> None:
    facts = ModelFacts("tiny", kind, "decoder", {})
    refused = set()
    for name in PEFT_ADAPTERS:
        try:
            METHODS.get(name)().check(facts)
        except UnsupportedError as error:
            assert "transposed matrices of tiny" in error.message
            refused.add(name)
    assert refused == set(NOT_TRANSPOSED)
    Lora().check(facts)
    with pytest.raises(UnsupportedError, match="OLoRA does not know"):
        Lora(initialization="olora").check(facts)


def test_prefixes_are_refused_for_multi_query_falcon() -> None:
    with pytest.raises(UnsupportedError, match="multi-query"):
        PrefixTuning().check(ModelFacts("tiny", "falcon", "decoder", {"multi_query": True}))


def test_a_full_name_is_right_for_a_checkpoint_without_the_models_prefix() -> None:
    check_targets(BARE, ["bert.encoder.layer.0.attention.self.query"])
    with pytest.raises(UnsupportedError):
        check_targets(BARE, ["bert.encoder.layer.0.attention.self.key"])


@pytest.mark.parametrize("name", [name for name, cls in METHODS.items() if "target_modules" in cls.model_fields])
def test_no_target_at_all_is_refused(name: str) -> None:
    others = {"feedforward_modules": []} if name == "ia3" else {}
    with pytest.raises(ConfigError, match=r"target_modules: .*it is empty"):
        METHODS[name](target_modules=[], **others)


@pytest.mark.parametrize(
    ("name", "keys", "told"),
    [
        ("oft", {"block_size": 1}, "greater than or equal to 2"),  # nothing would train
        ("lokr", {"decompose_factor": 0}, "decompose_factor"),
        ("vblora", {"vectors": 4, "top_k": 5}, "no more can be mixed"),
        ("gralora", {"rank": 32, "blocks": 5}, "does not divide `rank`"),  # and so says `validate`, not the run
        ("road", {"group_size": 3}, "multiple of 2"),
    ],
)
def test_a_size_that_peft_would_take_for_another_is_refused(name: str, keys: dict[str, int], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        METHODS[name](**keys)


def test_an_odd_number_of_reflections_is_refused_for_a_new_run() -> None:
    """peft began with another model than the base's."""
    kind = KIND["bert"]
    with pytest.raises(UnsupportedError, match="begins with another model than the base") as caught:
        METHODS["hra"](rank=3).check(kind.facts(kind.build()))
    assert caught.value.where == "method.rank"
    METHODS["hra"](rank=4).check(kind.facts(kind.build()))


@pytest.mark.parametrize(
    ("name", "keys", "told"),
    [
        ("oft", {"block_size": 48}, r"query: 48 does not divide its 32 inputs"),  # peft took others, a layer its own
        ("road", {"group_size": 48}, r"query: 48 does not divide its 32 outputs"),
        ("c3a", {"block_size": 48}, r"query: 48 does not divide its 32 inputs"),
        ("gralora", {"rank": 35, "blocks": 5}, r"query: 5 does not divide its 32 inputs"),
        ("vblora", {"vector_length": 64}, r"query: 64 does not divide its 32 inputs"),
        ("miss", {"rank": 33}, r"query: 33 is more than its 32 inputs"),
        ("fourierft", {"frequencies": 1025}, r"query: 1025 are more than its matrix has numbers, 1024"),
        ("shira", {"rank": 17}, r"query: 1088 entries of a LoRA of rank 17 are more than its matrix has, 1024"),
    ],
)
def test_sizes_that_do_not_fit_a_layer_are_refused_with_and_without_the_weights(
    name: str, keys: dict[str, int], told: str
) -> None:
    kind = KIND["bert"]
    method, facts = METHODS[name](**keys), kind.facts(kind.build())
    for refused in (lambda: method.check(facts), lambda: method.apply(kind.build(), kind.context())):
        with pytest.raises(UnsupportedError, match=told) as caught:
            refused()
        assert caught.value.where == f"method.{list(keys)[-1]}"
    # Of what may be put together otherwise when it is loaded, nothing is said before.
    method.check(replace(facts, config={"quantization_config": {}}))
    METHODS[name]().check(replace(facts, weights={"classifier.weight": (3, 1000)}))


@pytest.mark.parametrize("method", ["lora", "loha"])
def test_what_no_adapter_reaches_is_told(method: str) -> None:
    """`all-linear` has left out a mixture's experts, most of its weights, without a word: each tensor holds them all."""
    config = transformers.MixtralConfig(**SIZES, vocab_size=60, num_key_value_heads=2, num_local_experts=4)
    context = MethodContext("CAUSAL_LM", 30)
    model = METHODS[method]().apply(transformers.MixtralForCausalLM(config), context)
    detail = METHODS[method]().guards(model, context)["target_modules_matched"].detail
    assert "out of reach" in detail
    assert "experts.gate_up_proj, experts.down_proj" in detail
    frozen = {name: each.numel() for name, each in model.named_parameters() if not each.requires_grad}
    share = sum(size for name, size in frozen.items() if ".experts." in name) / sum(frozen.values())
    assert f" {share:.0%} of the frozen weights" in detail
    for kind in (KIND["bert"], KIND["gpt2-lm"]):
        model = METHODS["lora"]().apply(kind.build(), kind.context())
        assert "out of reach" not in METHODS["lora"]().guards(model, kind.context())["target_modules_matched"].detail


def test_biases_outside_of_a_layer_train_with_bitfit(tmp_path: Path) -> None:
    config = transformers.DebertaConfig(**SIZES, **COMMON, relative_attention=True, pos_att_type=["c2p", "p2c"])
    model, method = transformers.DebertaForSequenceClassification(config), METHODS["bitfit"]()
    base, context = copy.deepcopy(model), MethodContext("SEQ_CLS", 30, head_modules=("classifier",))
    method.apply(model, context)
    trained = {name.rpartition(".")[2] for name, each in model.named_parameters() if each.requires_grad}
    assert {"q_bias", "v_bias", "bias"} <= trained
    adapter = save_artifact(
        model, method, folder=tmp_path, tokenizer=NoTokenizer(), context=context, base_path="some/base"
    )
    weights = load_file(adapter / "adapter_model.safetensors")
    save_file({n: each for n, each in weights.items() if "q_bias" not in n}, adapter / "adapter_model.safetensors")
    load_artifact(lambda: copy.deepcopy(base), tmp_path)  # as a run of before: it held neither
    save_file({n: each for n, each in weights.items() if "LayerNorm" not in n}, adapter / "adapter_model.safetensors")
    with pytest.raises(UserError, match="lacks or adds"):
        load_artifact(lambda: copy.deepcopy(base), tmp_path)


WEIGHTS = {
    "model.layers.0.self_attn.q_proj.weight": (32, 32),
    "lm_head.weight": (400, 32),
    "classifier.dense.weight": (32, 32),
    "score.weight": (2, 32),
    "output.weight": (400, 32),
}


@pytest.mark.parametrize(
    ("target", "task", "is_known"),
    [
        ("lm_head", "CAUSAL_LM", False),
        ("output", "CAUSAL_LM", False),
        ("lm_head", "SEQ_CLS", False),
        ("classifier.dense", "SEQ_CLS", False),
        ("score", "TOKEN_CLS", False),
        ("q_proj", "SEQ_CLS", True),
        ("classifier.dense", "CAUSAL_LM", True),
    ],
)
def test_what_no_run_would_adapt_is_refused_without_weights_too(target: str, task: str, is_known: bool) -> None:
    facts = ModelFacts("tiny", "llama", "decoder", {"vocab_size": 400}, WEIGHTS, peft_task_type=task)
    if is_known:
        check_targets(facts, [target])
    else:
        with pytest.raises(UnsupportedError, match="matches no linear layer"):
            check_targets(facts, [target])


@pytest.mark.parametrize("initialization", ["pissa", "olora"])
def test_a_rank_beyond_the_matrix_is_refused_before_training(initialization: str) -> None:
    kind = KIND["bert"]
    with pytest.raises(UnsupportedError, match="at most 32"):
        Lora(initialization=initialization, rank=64).apply(kind.build(), kind.context())


@pytest.mark.parametrize(
    ("method", "settings"), [("p_tuning", {}), ("prompt_tuning", {"initialization": "random"}), ("prompt_tuning", {})]
)
def test_prompts_have_the_size_of_the_embeddings(method: str, settings: dict[str, str]) -> None:
    config = transformers.ElectraConfig(embedding_size=16, **SIZES, **COMMON)
    base = transformers.ElectraForSequenceClassification(config)
    model = METHODS.get(method)(**settings).apply(base, KIND["bert"].context())
    ids = torch.tensor([[5, 6, 7]])
    assert model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits.shape == (1, 3)


def test_modernbert_trains_all_its_norms() -> None:
    config = transformers.ModernBertConfig(
        **SIZES, vocab_size=60, pad_token_id=0, bos_token_id=1, eos_token_id=2, cls_token_id=1, sep_token_id=2
    )
    base = transformers.ModernBertForSequenceClassification(config)
    context = MethodContext("SEQ_CLS", 10, head_modules=("classifier", "head"), family="encoder")
    model = HoulsbyAdapter().apply(base, context)
    assert [name for name, p in model.named_parameters() if "norm" in name and not p.requires_grad] == []


def test_adaloras_guard_passes_when_the_best_epoch_lies_between_two_prunings() -> None:
    kind, method = KIND["bert"], AdaLora()
    context = replace(kind.context(), total_steps=100)
    torch.manual_seed(0)
    model = method.apply(kind.build(), context)
    assert method.guards(model, context)["ranks_changed"].status == "failed"
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=3e-3)
    batch = toy_batch(kind)
    for step in range(1, 51):
        (kind.task.loss(kind.task.logits(model, batch), batch) / kind.task.loss_terms(batch)).backward()
        optimizer.step()
        method.after_step(model, step)
        optimizer.zero_grad()
    values = [parameter for name, parameter in model.named_parameters() if "lora_E" in name]
    assert all(bool((value != 0).all()) for value in values), "the optimizer has moved the pruned values again"
    assert method.guards(model, context)["ranks_changed"].status == "passed"


@pytest.mark.parametrize("quantization", [None, "int8"])
def test_double_quantization_is_of_four_bits(quantization: str | None) -> None:
    with pytest.raises(ConfigError, match=r"^model\.double_quantization: .*has no effect"):
        check_quantization(ModelConfig(path="x", quantization=quantization, double_quantization=False), BARE)

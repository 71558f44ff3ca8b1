"""Bottleneck adapters: near the identity at the start, and at the right places of every family."""

from __future__ import annotations

import pytest
import torch

from peftlab.core.errors import UnsupportedError
from peftlab.core.method import METHODS
from peftlab.core.model_facts import ModelFacts
from peftlab.testing.method_training import logits_of
from peftlab.testing.tiny_models import KINDS, Kind

PLACES: dict[str, tuple[set[str], str]] = {
    "bert": ({"attention.output.dense"}, "output.dense"),
    "bert-tokens": ({"attention.output.dense"}, "output.dense"),
    "bert-spans": ({"attention.output.dense"}, "output.dense"),
    "roberta": ({"attention.output.dense"}, "output.dense"),
    "distilbert": ({"attention.out_lin"}, "ffn.lin2"),
    "gpt2": ({"attn.c_proj"}, "mlp.c_proj"),
    "llama": ({"self_attn.o_proj"}, "mlp.down_proj"),
    "t5": ({"SelfAttention.o", "EncDecAttention.o"}, "DenseReluDense.wo"),
    "bart": ({"self_attn.out_proj", "encoder_attn.out_proj"}, "0.fc2"),
}
"""Of a layer's attentions, and of its feed-forward part."""
COUNTS = {"t5": (4, 3), "bart": (3, 2)}
"""Attentions and feed-forward parts of both stacks; the others have two layers with one of each."""


def adapters_of(model) -> set[str]:
    ends = [name.removesuffix(".adapter") for name, _ in model.named_modules() if name.endswith(".adapter")]
    return {name.partition("layer.")[2].partition(".")[2] or ".".join(name.split(".")[-2:]) for name in ends}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
@pytest.mark.parametrize("name", ["houlsby_adapter", "pfeiffer_adapter"])
def test_placement_and_near_identity(name: str, kind: Kind) -> None:
    model = METHODS.get(name)().apply(kind.build(), kind.context())
    attention, feedforward = PLACES[kind.name.removesuffix("-lm")]
    attentions, feedforwards = COUNTS.get(kind.name, (2, 2))
    has_both = name == "houlsby_adapter"
    assert adapters_of(model) == ({*attention, feedforward} if has_both else {feedforward})
    count = sum(module_name.endswith(".adapter") for module_name, _ in model.named_modules())
    assert count == feedforwards + (attentions if has_both else 0)
    logits, base = logits_of(model, kind), logits_of(kind.build(), kind)
    assert torch.allclose(logits, base, atol=0.02)
    assert not torch.equal(logits, base)


def test_the_bottleneck_is_as_narrow_as_it_says() -> None:
    model = METHODS.get("pfeiffer_adapter")(reduction_factor=8).apply(KINDS[0].build(), KINDS[0].context())
    adapter = model.bert.encoder.layer[0].output.dense.adapter
    assert adapter[0].weight.shape == (4, 32)
    assert adapter[2].weight.shape == (32, 4)
    assert adapter[0].weight.abs().max() <= 2e-2
    assert adapter[0].bias.abs().max() == 0


def test_layer_norms_train_with_houlsby_unless_told_otherwise() -> None:
    kind = KINDS[0]
    trained = METHODS.get("houlsby_adapter")().apply(kind.build(), kind.context())
    assert trained.bert.encoder.layer[0].output.LayerNorm.weight.requires_grad
    frozen = METHODS.get("houlsby_adapter")(train_layer_norm=False).apply(kind.build(), kind.context())
    assert not frozen.bert.encoder.layer[0].output.LayerNorm.weight.requires_grad


def test_unknown_blocks_are_refused_with_the_way_out() -> None:
    weights = {"block.0.mix.weight": (8, 8)}
    facts = ModelFacts("odd", "odd", "encoder", {}, weights)
    with pytest.raises(UnsupportedError, match=r"Name it in method\.feedforward_output_modules"):
        METHODS.get("pfeiffer_adapter")().check(facts)
    METHODS.get("pfeiffer_adapter")(feedforward_output_modules=["mix"]).check(facts)
    with pytest.raises(UnsupportedError, match="`mxi` matches no linear layer"):
        METHODS.get("pfeiffer_adapter")(feedforward_output_modules=["mxi"]).check(facts)


def test_the_blocks_of_mpnet_are_known() -> None:
    weights = dict.fromkeys(("encoder.layer.0.attention.attn.o.weight", "encoder.layer.0.output.dense.weight"), (8, 8))
    METHODS.get("houlsby_adapter")().check(ModelFacts("odd", "mpnet", "encoder", {}, weights))

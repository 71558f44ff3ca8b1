"""Weight decay falls on matrices alone, whatever the method."""

from __future__ import annotations

import re

import pytest
import torch

from peftlab.core.errors import UnsupportedError
from peftlab.core.method import METHODS, Method
from peftlab.testing.tiny_models import KINDS, Kind
from peftlab.training.hooks import HookList
from peftlab.training.optimizers import build_optimizer
from peftlab.training.training_config import TrainingConfig
from tests.small_methods import PEFT_ADAPTERS, small_method

NEITHER = re.compile(  # T5's relative positions are an embedding, whatever their name
    r"(?<!relative_attention_)bias|norm|ln_|lora_E|ia3_l|magnitude|vera_lambda|spectrum|randlora_|road_|shira_weight|prompt_encoder\.default\.embedding",
    re.IGNORECASE,
)
VARIANTS = [
    *[small_method(name) for name in METHODS],
    METHODS.get("randlora")(rank=4),
    METHODS.get("lora")(dora=True),
    METHODS.get("lora")(rank=1),
    METHODS.get("adalora")(initial_rank=2, target_rank=1),
    METHODS.get("prefix_tuning")(projection=True),
    METHODS.get("prompt_tuning")(num_virtual_tokens=1),
    METHODS.get("p_tuning")(encoder="lstm"),
]


@pytest.mark.parametrize(
    ("method", "kind"),
    [
        pytest.param(method, kind, id=f"{method!r}-{kind.name}")
        for method in VARIANTS
        for kind in (KINDS if method.registered_name not in PEFT_ADAPTERS else KINDS[:1])
    ],
)
def test_only_matrices_decay(method: Method, kind: Kind) -> None:
    """Not biases, norms, (IA)³'s vectors, AdaLoRA's singular values, DoRA's magnitudes or virtual tokens."""
    base = kind.build()
    try:
        method.check(kind.facts(base))
        model = method.apply(base, kind.context())
    except UnsupportedError:
        pytest.skip("refused")
    optimizer = build_optimizer(model, TrainingConfig(weight_decay=0.1), 1e-3, hooks=HookList([method]))
    names = {id(parameter): name for name, parameter in model.named_parameters() if parameter.requires_grad}
    decays = {}
    for group in optimizer.param_groups:
        decays |= {names.pop(id(parameter)): group["weight_decay"] == 0.1 for parameter in group["params"]}
    assert not names, "each trained parameter is in one group"
    for name, does in decays.items():
        assert does == (NEITHER.search(name) is None), name


def test_what_a_model_marks_does_not_decay() -> None:
    """State-space models mark matrices that are no weights."""
    layer = torch.nn.Module()
    layer.A_log, layer.mix = torch.nn.Parameter(torch.ones(3, 4)), torch.nn.Parameter(torch.ones(1, 1, 5))
    layer.A_log._no_weight_decay = True
    layer.out = torch.nn.Linear(4, 1)
    optimizer = build_optimizer(layer, TrainingConfig(weight_decay=0.1), 1e-3)
    by_decay = {group["weight_decay"]: [p.shape for p in group["params"]] for group in optimizer.param_groups}
    assert by_decay == {0.1: [layer.out.weight.shape], 0.0: [(3, 4), (1, 1, 5), (1,)]}

"""On a base in half precision whatever trains is float32: small updates are not rounded away."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from peftlab.artifact.load_artifact import load_artifact
from peftlab.artifact.save import loaded_tensors, save_artifact, tensors_to_save
from peftlab.core.errors import UnsupportedError
from peftlab.core.method import METHODS, Method
from peftlab.testing.tiny_models import KINDS, Kind, NoTokenizer, toy_batch
from peftlab.training.fingerprints import fingerprints
from peftlab.training.guards import check_trainable_parameters
from tests.small_methods import PEFT_ADAPTERS, small_method

pytestmark = pytest.mark.slow

RATE = 1e-5
"""So small that half precision would round every single update of a norm's weight, which is 1, away."""
VARIANTS = [
    *[small_method(name) for name in METHODS],
    METHODS.get("lora")(dora=True),
    METHODS.get("lora")(initialization="pissa"),
    METHODS.get("prefix_tuning")(projection=True),
    METHODS.get("prompt_tuning")(initialization="random"),
]


def half(kind: Kind, dtype: torch.dtype) -> Any:
    """As a run loads it: the base in half precision, the head in float32."""
    base = kind.build().to(dtype)
    for name in kind.head:
        base.get_submodule(name).float()
    return base


def wrap(method: Method, kind: Kind, dtype: torch.dtype) -> Any:
    base = half(kind, dtype)
    try:
        method.check(kind.facts(base))
        torch.manual_seed(0)
        return method.apply(base, kind.context(400))
    except UnsupportedError:
        pytest.skip("refused")


# Both types are cast alike: the rarer one is tried on one kind of model.
@pytest.mark.parametrize(
    ("method", "kind", "dtype"),
    [
        pytest.param(method, kind, dtype, id=f"{method!r}-{kind.name}-{dtype}")
        for method in VARIANTS
        for kind in (KINDS if method.registered_name not in PEFT_ADAPTERS else KINDS[:1])
        for dtype in ([torch.bfloat16, torch.float16] if kind is KINDS[0] else [torch.bfloat16])
    ],
)
def test_whatever_trains_is_float32(method: Method, kind: Kind, dtype: torch.dtype) -> None:
    model = wrap(method, kind, dtype)
    assert {parameter.dtype for parameter in model.parameters() if parameter.requires_grad} == {torch.float32}


@pytest.mark.parametrize("kind", [KINDS[0], KINDS[5]], ids=lambda kind: kind.name)
@pytest.mark.parametrize(
    "method", [method for method in VARIANTS if method.registered_name not in PEFT_ADAPTERS], ids=repr
)
def test_twenty_small_steps_move_it(method: Method, kind: Kind, tmp_path: Path) -> None:
    model = wrap(method, kind, torch.bfloat16)
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    before = {name: parameter.detach().clone() for name, parameter in trained.items()}
    optimizer, batch = torch.optim.AdamW(trained.values(), lr=RATE, weight_decay=0.0), toy_batch(kind)
    for number in range(1, 21):
        with torch.autocast("cpu", torch.bfloat16):
            loss = kind.task.training_loss(model, batch) / kind.task.loss_terms(batch)
        loss.backward()
        optimizer.step()
        method.after_step(model, number)
        optimizer.zero_grad(set_to_none=True)
    for name, parameter in trained.items():
        moved = float((parameter.detach() - before[name]).abs().max())
        assert moved > 5 * RATE, name
    context = kind.context(400)
    save_artifact(model, method, folder=tmp_path, tokenizer=NoTokenizer(), context=context, base_path="some/base")
    saved = fingerprints(tensors_to_save(model, method))
    again = load_artifact(lambda: half(kind, torch.bfloat16), tmp_path)
    assert fingerprints(loaded_tensors(again, method)) == saved


def test_a_plugin_that_trains_in_half_precision_is_caught() -> None:
    kind = KINDS[0]
    base = half(kind, torch.bfloat16)
    names = {id(parameter): name for name, parameter in base.named_parameters()}
    guard = check_trainable_parameters(
        base.requires_grad_(True), METHODS.get("full")(), base_names=names, head_modules=kind.head
    )
    assert guard.status == "failed"
    assert "half precision" in guard.detail

"""The parts as they are chosen on a card, here on CPU: in float64 exact, under bfloat16 within its rounding."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from language_models import tiny_decoder
from test_fused import batch_of, with_lora
from torch import Tensor, nn
from torch.autograd import gradcheck
from torch.utils._python_dispatch import TorchDispatchMode

from peftlab.acceleration import gated_mlp, lora, low_rank, rms_norm, rotary
from peftlab.acceleration.accelerated import accelerated
from peftlab.acceleration.casts import Casts
from peftlab.acceleration.device import Card, as_if_on, card_of
from peftlab.tasks.language.chunked_loss import elements_on_card
from peftlab.tasks.language.vocabulary_head import labelled_loss


@pytest.fixture(autouse=True)
def _card() -> Iterator[None]:
    with as_if_on(Card("cuda", 80 * 10**9)):
        yield


def exact(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64).requires_grad_()


def test_every_operation_has_the_gradient_of_its_formula() -> None:
    torch.manual_seed(0)
    weight, bias, narrow = torch.randn(5, 4).double(), torch.randn(5).double(), torch.randn(4, 5).double()
    down, up = exact(2, 4), exact(5, 2)

    def with_update(states: Tensor, down: Tensor, up: Tensor) -> Any:
        return low_rank._Lora.apply(states, weight, bias, down, up, 1.5)

    def gated(gate: Tensor, other: Tensor, down: Tensor, up: Tensor) -> Any:
        return gated_mlp._GatedLora.apply(gate, other, narrow, None, down, up, 0.7)

    angles = torch.randn(1, 3, 2).double().repeat(1, 1, 2)
    assert gradcheck(with_update, (exact(3, 4), down, up))
    assert gradcheck(gated, (exact(3, 5), exact(3, 5), exact(2, 5), exact(4, 2)))
    assert gradcheck(gated_mlp._Gated.apply, (exact(3, 5), exact(3, 5)))
    assert gradcheck(lambda x, w: rms_norm._RmsNorm.apply(x, w, 0.1), (exact(2, 3, 4), exact(4)))
    assert gradcheck(lambda x: rotary._Rotation.apply(x, angles.cos(), angles.sin()), (exact(1, 2, 3, 4),))


def halved(family: str, targets: Any = "all-linear") -> Any:
    """A base in bfloat16 under adapters in float32, and the same numbers in float64."""
    model = with_lora(tiny_decoder(family).bfloat16(), targets)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = parameter.data.float()
    return model


def step(model: Any, batch: dict[str, Tensor], kind: torch.dtype | None) -> dict[str, Tensor]:
    model.zero_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=kind is not None):
        loss = labelled_loss(model, batch)
    loss.backward()
    found = {name: p.grad.double() for name, p in model.named_parameters() if p.grad is not None}
    return {"loss": loss.detach().double(), **found}


def distance(found: dict[str, Tensor], exact: dict[str, Tensor]) -> float:
    """The largest relative error of loss and gradients."""
    assert found.keys() == exact.keys()
    return max(float((found[name] - value).norm() / value.norm()) for name, value in exact.items())


@pytest.mark.parametrize("family", ["llama", "qwen3", "gpt2", "gemma2"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_under_autocast_nothing_is_less_exact_than_plain(family: str, checkpointing: bool) -> None:
    batch = batch_of([9, 5, 12])
    model = halved(family)
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
        model.enable_input_require_grads()
    plain = step(model, batch, torch.bfloat16)
    with accelerated(model) as parts:
        assert parts["lora_linear"] >= 8
        fused = step(model, batch, torch.bfloat16)
    assert not any(hasattr(module, low_rank.CASTS) for module in model.modules())
    truth = step(model.double(), batch, None)
    rounding = distance(plain, truth)
    assert 1e-4 < rounding < 0.2
    assert distance(fused, truth) < 1.5 * rounding
    with accelerated(model):  # float64 is fused here too
        assert distance(step(model, batch, None), truth) < 1e-5  # the models' own norms are in float32


class Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.found[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))


def test_all_adapters_are_cast_once_and_anew_in_each_step() -> None:
    model, batch = halved("llama"), batch_of([9, 5, 12])
    with accelerated(model):
        first = step(model, batch, torch.bfloat16)
        with Operations() as operations:
            step(model, batch, torch.bfloat16)
        assert operations.found["_foreach_copy_"] == 2
        casts = next(module.casts for module in model.modules() if isinstance(module, lora.FusedLora))
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "lora_B" in name:
                    parameter.mul_(0.5)
        weight = next(p for name, p in model.named_parameters() if "lora_B" in name)
        # Who computes a part of the model alone does not meet the numbers of the step before.
        torch.testing.assert_close(casts.weight(weight, torch.bfloat16), weight.bfloat16())
        moved = step(model, batch, torch.bfloat16)
        assert abs(float(moved["loss"] - first["loss"])) > 1e-3
        with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
            labelled_loss(model, batch)
        assert step(model, batch, torch.bfloat16)["loss"] == moved["loss"]


def test_two_forward_passes_before_one_backward_pass() -> None:
    model, batch = halved("llama"), batch_of([9, 5, 12])
    with accelerated(model):
        once = step(model, batch, torch.bfloat16)
        model.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = labelled_loss(model, batch) + labelled_loss(model, batch)
        loss.backward()
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(parameter.grad.double(), 2 * once[name], rtol=1e-2, atol=1e-4)


def test_layers_that_read_the_same_states_share_their_cast() -> None:
    casts, states = Casts(), torch.randn(3, 4, requires_grad=True)
    one = casts.states(states, torch.bfloat16)
    assert casts.states(states, torch.bfloat16) is one
    assert casts.states(torch.randn(3, 4), torch.bfloat16) is not one
    changed = torch.randn(3, 4)
    before = casts.states(changed, torch.bfloat16)
    changed.add_(1)
    assert casts.states(changed, torch.bfloat16) is not before
    with torch.inference_mode():
        answered = torch.randn(3, 4)
        for _ in range(2):
            assert torch.equal(casts.states(answered, torch.bfloat16), answered.bfloat16())
            assert casts.states(changed, torch.bfloat16).dtype == torch.bfloat16
    assert not casts.states(changed, torch.bfloat16).is_inference()


def test_adapters_that_do_not_train_have_no_gradient() -> None:
    model, batch = halved("llama"), batch_of([9, 5])
    frozen = [p for name, p in model.named_parameters() if "lora_A" in name]
    for parameter in frozen:
        parameter.requires_grad_(False)
    plain = step(model, batch, torch.bfloat16)
    with accelerated(model):
        assert step(model, batch, torch.bfloat16).keys() == plain.keys()
    assert all(parameter.grad is None for parameter in frozen)


def test_norms_of_another_type_than_their_inputs_stay_the_models_own() -> None:
    model = nn.Sequential(tiny_decoder("llama").model.layers[0].input_layernorm)
    states = torch.randn(2, model[0].weight.numel()).bfloat16()
    expected = model(states)
    with accelerated(model) as parts:
        assert parts == {"rms_norm": 1}
        assert torch.equal(model(states), expected)


def test_chunks_of_the_loss_fit_the_card() -> None:
    rows = elements_on_card(80 * 10**9) // 128_256
    assert -(-8192 // rows) <= 5  # the head is read twice for each
    assert elements_on_card(8 * 10**9) * 8 <= 8 * 10**9 // 32
    assert elements_on_card(None) == elements_on_card(10**12)
    with as_if_on(Card("cpu")):
        assert card_of(torch.ones(1)).type == "cpu"


def test_on_cpu_half_precision_stays_the_models_own() -> None:
    model = halved("llama")
    with as_if_on(Card("cpu")), accelerated(model) as parts:
        assert "lora_linear" not in parts
        assert "rms_norm" not in parts


def test_a_kernel_is_taken_only_where_it_is_there_and_right(monkeypatch: pytest.MonkeyPatch) -> None:
    agrees = rms_norm.kernel_agrees.__wrapped__
    assert not agrees("cpu", torch.float32)  # CPUs have none of the gradients

    def by_formula(gradient: Tensor, states: Tensor, weight: Tensor, inverse: Tensor, wanted: Any) -> Any:
        return rms_norm.gradients_of_norm(gradient, states, weight, inverse, wanted)

    monkeypatch.setattr(rms_norm, "_kernel_backward", by_formula)
    for kind in (torch.float32, torch.bfloat16, torch.float16):
        with torch.inference_mode():
            assert agrees("cpu", kind)
    monkeypatch.setattr(rms_norm, "_kernel", lambda *given: (given[0] * 1.1, given[0][:, :1]))
    assert not agrees("cpu", torch.bfloat16)

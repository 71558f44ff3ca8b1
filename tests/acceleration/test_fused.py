"""Fused parts compute what the plain ones do, forward and backward, keep less, and are gone afterwards."""

from __future__ import annotations

import copy
from typing import Any

import peft
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from language_models import SIZES, tiny_decoder
from peft.tuners.lora.layer import Linear as LoraLinear
from torch import Tensor, nn

from peftlab.acceleration import onednn
from peftlab.acceleration.accelerated import accelerated, prepare
from peftlab.acceleration.conv1d import OneDnnConv1D
from peftlab.acceleration.gated_mlp import FusedGatedMlp
from peftlab.acceleration.lora import FusedLora
from peftlab.acceleration.onednn import is_available
from peftlab.acceleration.rms_norm import FusedRmsNorm
from peftlab.acceleration.rotary import FusedRotaryAttention
from peftlab.acceleration.same_results import gives_the_same, ramp
from peftlab.measurement.memory import peak_of
from peftlab.tasks.language.decoder import pad_language, shifted
from peftlab.tasks.language.vocabulary_head import labelled_loss

PARTS = (FusedLora, FusedGatedMlp, FusedRmsNorm, FusedRotaryAttention, OneDnnConv1D)


def with_lora(model: nn.Module, targets: Any = "all-linear", **settings: Any) -> Any:
    """A model with LoRA whose B is not zero any more, ready to train."""
    torch.manual_seed(1)
    wrapped = peft.get_peft_model(model, peft.LoraConfig(r=3, lora_alpha=7, target_modules=targets, **settings))
    for name, parameter in wrapped.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.3)
    return wrapped.train()


def batch_of(lengths: list[int]) -> dict[str, Tensor]:
    torch.manual_seed(2)
    rows = [torch.randint(2, 60, (length,)).tolist() for length in lengths]
    return pad_language([{"input_ids": row, "labels": shifted(row, 1)} for row in rows], 0)


def loss_and_gradients(model: Any, batch: dict[str, Tensor]) -> tuple[float, dict[str, Tensor]]:
    model.zero_grad()
    loss = labelled_loss(model, batch)
    loss.backward()
    return float(loss), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def agree(model: Any, batch: dict[str, Tensor]) -> None:
    """The same loss and gradients, fused and plain."""
    plain, expected = loss_and_gradients(model, batch)
    with accelerated(model):
        loss, gradients = loss_and_gradients(model, batch)
    assert loss == pytest.approx(plain, rel=1e-5)
    assert gradients.keys() == expected.keys()
    assert expected
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-3, atol=1e-4 * float(expected[name].abs().max()))


def parts_in(model: nn.Module) -> set[type]:
    return {part for module in model.modules() for part in PARTS if isinstance(module, part)}


@settings(max_examples=40, deadline=None)
@given(
    shape=st.lists(st.integers(0, 7), min_size=1, max_size=3),
    sizes=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    rank=st.integers(1, 9),
    bias=st.booleans(),
    input_learns=st.booleans(),
)
def test_a_layer_with_lora(shape: list[int], sizes: tuple[int, int], rank: int, bias: bool, input_learns: bool) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(*sizes, bias=bias))
    wrapped = peft.get_peft_model(model, peft.LoraConfig(r=rank, lora_alpha=5, target_modules=["0"]))
    layer = model[0]
    nn.init.normal_(layer.lora_B["default"].weight)
    results = []
    for is_fused in (False, True):
        states = torch.randn(*shape, sizes[0], generator=torch.Generator().manual_seed(1)).requires_grad_(input_learns)
        wrapped.zero_grad()
        if is_fused:
            with accelerated(wrapped):
                assert type(layer) is FusedLora
                output = wrapped(states)
                output.square().sum().backward()
        else:
            output = wrapped(states)
            output.square().sum().backward()
        results.append([output, states.grad, *(layer_.weight.grad.clone() for layer_ in _low_rank(layer))])
    assert type(layer) is LoraLinear
    for expected, found in zip(*results, strict=True):
        assert (expected is None) == (found is None)
        if expected is not None:
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * _greatest(expected) + 1e-6)


def _greatest(values: Tensor) -> float:
    return float(values.detach().abs().max()) if values.numel() else 0.0


def _low_rank(layer: Any) -> list[Any]:
    return [layer.lora_A["default"], layer.lora_B["default"]]


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "qwen3", "smollm3"])
def test_decoders_like_llama_learn_the_same_by_all_fused_parts(family: str) -> None:
    model = with_lora(tiny_decoder(family))
    with accelerated(model):
        assert parts_in(model) == {FusedLora, FusedGatedMlp, FusedRmsNorm, FusedRotaryAttention}
    assert not parts_in(model)
    agree(model, batch_of([9, 5, 12]))


@pytest.mark.parametrize("part", ["self_attn.q_proj", "mlp", "input_layernorm"])
def test_what_a_part_gives_may_be_changed_in_place(part: str) -> None:
    model = with_lora(tiny_decoder("llama"))

    def change(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
        output *= 1.5
        return output

    model.base_model.model.model.layers[0].get_submodule(part).register_forward_hook(change)
    agree(model, batch_of([9, 5, 12]))


@pytest.mark.parametrize("family", ["gemma", "gemma2", "olmo2", "phi", "phi3", "gpt2", "gpt_neox"])
def test_decoders_with_parts_of_their_own_learn_the_same_too(family: str) -> None:
    agree(with_lora(tiny_decoder(family)), batch_of([9, 5, 12]))


@pytest.mark.skipif(not is_available(), reason="this torch has no oneDNN")
def test_gpt2s_matrices_lie_the_other_way_around(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onednn, "is_intel", lambda: False)
    model = with_lora(tiny_decoder("gpt2"))
    with accelerated(model):
        assert parts_in(model) == {FusedLora, OneDnnConv1D}
    full = tiny_decoder("gpt2").train()
    with accelerated(full):
        assert parts_in(full) == {OneDnnConv1D}
    agree(full, batch_of([9, 5, 12]))


def test_gemmas_norm_and_gelu_are_not_taken_for_llamas() -> None:
    model = with_lora(tiny_decoder("gemma"))
    with accelerated(model):
        assert parts_in(model) == {FusedLora, FusedRotaryAttention}


def test_positions_turned_pair_by_pair_are_not_taken_for_llamas() -> None:
    model = with_lora(tiny_decoder("glm"))
    with accelerated(model):
        assert FusedRotaryAttention not in parts_in(model)
    agree(model, batch_of([9, 5, 12]))


@pytest.mark.parametrize("targets", [["q_proj", "v_proj"], ["gate_proj", "down_proj"], ["up_proj"]])
def test_any_layers_may_have_an_update(targets: list[str]) -> None:
    agree(with_lora(tiny_decoder("llama"), targets), batch_of([9, 5, 12]))


def test_full_tuning_has_the_same_gradients_for_every_weight() -> None:
    model = tiny_decoder("llama").train()
    with accelerated(model):
        assert parts_in(model) == {FusedGatedMlp, FusedRmsNorm, FusedRotaryAttention}
    agree(model, batch_of([9, 5, 12]))


def test_gradient_checkpointing() -> None:
    base = tiny_decoder("llama")
    model = with_lora(base)
    base.gradient_checkpointing_enable({"use_reentrant": False})
    model.enable_input_require_grads()
    agree(model, batch_of([9, 5, 12]))


def test_switched_off_merged_and_second_adapters_compute_as_pefts_do() -> None:
    model, batch = with_lora(tiny_decoder("llama")), batch_of([9, 5])
    model.add_adapter("other", peft.LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False))

    def losses() -> list[float]:
        found = [float(labelled_loss(model, batch))]
        with model.disable_adapter():
            found.append(float(labelled_loss(model, batch)))
        model.set_adapter("other")
        found.append(float(labelled_loss(model, batch)))
        model.set_adapter("default")
        model.merge_adapter()
        found.append(float(labelled_loss(model, batch)))
        model.unmerge_adapter()
        return found

    with torch.no_grad():
        expected = losses()
        with accelerated(model):
            found = losses()
    assert len({round(value, 3) for value in expected}) == 3  # merged is as unmerged
    assert found == pytest.approx(expected, rel=1e-5)


def test_under_autocast_parts_compute_as_the_plain_ones() -> None:
    model, batch = with_lora(tiny_decoder("llama")), batch_of([9, 5])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = [float(labelled_loss(model, batch))]
        with accelerated(model):
            losses.append(float(labelled_loss(model, batch)))
    assert losses[0] == pytest.approx(losses[1], rel=2e-2)


@pytest.mark.parametrize("own", [{"lora_dropout": 0.1}, {"use_dora": True}, {"lora_bias": True}])
def test_layers_with_more_to_them_stay_pefts(own: dict[str, Any]) -> None:
    model = with_lora(tiny_decoder("llama"), **own)
    with accelerated(model):
        assert parts_in(model) == {FusedGatedMlp, FusedRmsNorm, FusedRotaryAttention}


def test_other_types_of_numbers_are_left_alone() -> None:
    model = with_lora(tiny_decoder("llama").double())
    with accelerated(model):
        assert FusedLora not in parts_in(model)
        assert FusedRmsNorm not in parts_in(model)
    agree(model, batch_of([9, 5]))


def test_an_error_leaves_plain_parts_behind_too() -> None:
    model = with_lora(tiny_decoder("llama"))
    before = [type(module) for module in model.modules()]
    with pytest.raises(KeyError), accelerated(model):
        raise KeyError
    assert [type(module) for module in model.modules()] == before


def test_the_classes_are_still_the_models_own() -> None:
    model = with_lora(tiny_decoder("llama"))
    before = [type(module) for module in model.modules()]
    with accelerated(model):
        assert all(isinstance(module, own) for module, own in zip(model.modules(), before, strict=True))
        files = {own.__module__ for own in before if own.__module__.startswith("transformers.")}
        assert files <= {type(module).__module__ for module in model.modules()}
        copy.deepcopy(model)


def test_less_is_kept_for_the_backward_pass() -> None:
    model, batch = with_lora(tiny_decoder("llama")), batch_of([48] * 8)

    def peak() -> int:
        return peak_of(lambda: labelled_loss(model, batch).backward(), device=torch.device("cpu"))[1]

    plain = peak()
    with accelerated(model):
        less = peak()
    wide = (
        8 * 48 * SIZES["intermediate_size"] * 4 * SIZES["num_hidden_layers"]
    )  # bytes of a tensor of every layer's MLP
    assert plain - less > wide  # of two, as elsewhere in the step less is alive now


def test_code_that_raises_or_gives_anything_else_is_not_taken_for_the_same() -> None:
    assert gives_the_same(lambda: ramp(3), lambda: ramp(3))
    assert not gives_the_same(lambda: ramp(3) + 1e-3, lambda: ramp(3))
    assert not gives_the_same(lambda: ramp(4), lambda: ramp(3))
    assert not gives_the_same(lambda: None, lambda: ramp(3))
    assert not gives_the_same(lambda: {}["missing"], lambda: ramp(3))


@pytest.mark.parametrize("family", ["llama", "gemma2", "glm", "gpt2"])
def test_trying_a_part_draws_no_random_numbers(family: str) -> None:
    model = with_lora(tiny_decoder(family))
    state = torch.get_rng_state()
    with accelerated(model):
        assert torch.equal(torch.get_rng_state(), state)


class ScaledNorm(nn.Module):
    """Looks like Llama's norm, and is not."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.variance_epsilon = nn.Parameter(torch.ones(8)), 1e-6

    def forward(self, states: Tensor) -> Tensor:
        return (1 + self.weight) * states * torch.rsqrt(states.square().mean(-1, keepdim=True) + self.variance_epsilon)


class SameNorm(ScaledNorm):
    """Computes as Llama's does, in words of its own."""

    def forward(self, states: Tensor) -> Tensor:
        return states / (states.pow(2).mean(-1, keepdim=True) + self.variance_epsilon).sqrt() * self.weight


@pytest.mark.parametrize(("part", "is_known"), [(ScaledNorm, False), (SameNorm, True)])
def test_a_part_is_known_by_what_it_computes(part: type[nn.Module], is_known: bool) -> None:
    model = nn.Sequential(part())
    states = torch.randn(2, 3, 8)
    expected = model(states)
    with accelerated(model) as parts:
        assert parts == ({"rms_norm": 1} if is_known else {})
        torch.testing.assert_close(model(states), expected)


FAMILIES = ["llama", "mistral", "qwen2", "qwen3", "smollm3", "gemma", "gemma2", "olmo2", "phi3", "gpt2", "gpt_neox"]


@pytest.mark.parametrize("family", FAMILIES)
def test_off_gives_the_same_losses_by_the_models_own_code(family: str) -> None:
    batch, losses = batch_of([9, 5, 12]), []
    for acceleration in ("auto", "off"):
        base = tiny_decoder(family)
        prepare(base, acceleration)
        model = with_lora(base)
        optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-3)
        before = [type(module) for module in model.modules()]
        with accelerated(model) as parts:
            assert bool(parts) == (acceleration == "auto")
            assert acceleration == "auto" or before == [type(module) for module in model.modules()]
            for _ in range(3):
                losses.append(labelled_loss(model, batch).div(23))
                losses[-1].backward()
                optimizer.step()
                optimizer.zero_grad()
    assert [float(loss) for loss in losses[:3]] == pytest.approx([float(loss) for loss in losses[3:]], rel=1e-6)
    assert float(losses[0]) != float(losses[2])

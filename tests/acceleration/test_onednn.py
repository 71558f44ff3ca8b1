"""Products through oneDNN are those of torch, forward and backward, and the layers are as before afterwards."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from peftlab.acceleration import onednn
from peftlab.acceleration.onednn import SMALLEST, OneDnnLinear, is_available, through_onednn

pytestmark = pytest.mark.skipif(not is_available(), reason="this torch has no oneDNN")


@pytest.fixture(scope="module", autouse=True)
def _not_intel() -> Iterator[None]:
    """Where oneDNN is the faster library."""
    with mock.patch.object(onednn, "is_intel", return_value=False):
        yield


@settings(max_examples=40, deadline=None)
@given(
    shape=st.lists(st.integers(0, 7), min_size=1, max_size=3),
    sizes=st.tuples(st.integers(SMALLEST, 130), st.integers(SMALLEST, 130)),
    bias=st.booleans(),
    frozen=st.booleans(),
    input_learns=st.booleans(),
)
def test_values_and_gradients_are_those_of_torch(
    shape: list[int], sizes: tuple[int, int], bias: bool, frozen: bool, input_learns: bool
) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(*sizes, bias=bias).requires_grad_(not frozen)
    model = nn.Sequential(layer, nn.Linear(sizes[1], 2))
    results = []
    for through in (False, True):
        states = torch.randn(*shape, sizes[0], generator=torch.Generator().manual_seed(1)).requires_grad_(input_learns)
        model.zero_grad()
        if through:
            with through_onednn(model):
                assert type(layer) is OneDnnLinear
                output = model(states)
                output.square().sum().backward()
        else:
            output = model(states)
            output.square().sum().backward()
        gradients = [states.grad, *(parameter.grad for parameter in model.parameters())]
        results.append([output, *(None if value is None else value.clone() for value in gradients)])
    assert type(layer) is nn.Linear
    for expected, found in zip(*results, strict=True):
        assert (expected is None) == (found is None)
        if expected is not None:
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_layers_that_gain_nothing_or_are_of_another_kind_are_left_alone() -> None:
    class Other(nn.Linear):
        """Another class, as a quantised layer is."""

    model = nn.ModuleList([nn.Linear(8, 200), Other(100, 100), nn.Linear(100, 100).double(), nn.Linear(100, 100)])
    with through_onednn(model):
        assert [type(layer) for layer in model] == [nn.Linear, Other, nn.Linear, OneDnnLinear]
    assert [type(layer) for layer in model] == [nn.Linear, Other, nn.Linear, nn.Linear]


def test_an_error_leaves_plain_layers_behind_too() -> None:
    model = nn.Linear(100, 100)
    with pytest.raises(KeyError), through_onednn(model):
        raise KeyError
    assert type(model) is nn.Linear


def test_under_autocast_a_layer_computes_as_torch_does() -> None:
    layer, states = nn.Linear(100, 100), torch.randn(2, 100)
    with through_onednn(layer), torch.autocast("cpu", dtype=torch.bfloat16):
        assert layer(states).dtype == torch.bfloat16


def test_what_a_layer_gives_may_be_changed_in_place() -> None:
    """As AdaLoRA does with the outputs of the base's layers."""
    layer, states = nn.Linear(100, 100), torch.randn(2, 3, 100, requires_grad=True)
    gradients = []
    for through in (False, True):
        with through_onednn(layer) if through else contextlib.nullcontext():
            output = layer(states)
            output += states
            gradients.append(torch.autograd.grad(output.square().sum(), states)[0])
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-4, atol=1e-4)


def test_on_intel_layers_stay_as_torch_has_them() -> None:
    layer, states = nn.Linear(100, 100), torch.randn(3, 100)
    with mock.patch.object(onednn, "is_intel", return_value=True), through_onednn(layer) as count:
        assert (count, type(layer)) == (0, nn.Linear)
        expected = layer(states)
        assert torch.equal(onednn.linear(states, layer.weight, layer.bias), expected)
    torch.testing.assert_close(onednn.product(states, layer.weight, layer.bias), expected, rtol=1e-4, atol=1e-5)

"""Layers that read the same states are computed together: the same numbers, in fewer operations."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from test_fused import batch_of, with_lora
from test_on_card import Operations, exact, halved, step
from test_unpadding import sequence_logits, texts, tiny_encoder
from torch.autograd import gradcheck

from peftlab.acceleration import lora
from peftlab.acceleration.accelerated import accelerated, prepare
from peftlab.acceleration.device import Card, as_if_on
from peftlab.acceleration.lora_groups import SharedInputs, computed_together
from peftlab.acceleration.lora_matrices import LoraMatrices
from peftlab.tasks.text_inputs import pad


@pytest.fixture(autouse=True)
def _card() -> Iterator[None]:
    with as_if_on(Card("cuda", 80 * 10**9)):
        yield


def test_the_gradient_is_that_of_the_formula() -> None:
    torch.manual_seed(0)
    weights = [torch.randn(size, 4).double() for size in (5, 3)]
    bias = torch.randn(5).double()

    def together(states, *adapters):
        layers = [
            LoraMatrices(weights[0], bias, adapters[0], adapters[1], 1.5),
            LoraMatrices(weights[1], None, adapters[2], adapters[3], 0.5),
        ]
        return computed_together(states, layers)

    def apart(states, *adapters):
        layers = [(weights[0], bias, *adapters[:2], 1.5), (weights[1], 0, *adapters[2:], 0.5)]
        return [states @ w.T + b + s * (states @ down.T) @ up.T for w, b, down, up, s in layers]

    inputs = (exact(6, 4), exact(2, 4), exact(5, 2), exact(3, 4), exact(3, 3))
    assert gradcheck(together, inputs)
    for one, other in zip(together(*inputs), apart(*inputs), strict=True):
        torch.testing.assert_close(one, other)


def test_a_step_takes_fewer_products(monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = halved("llama").double(), batch_of([9, 5, 12])
    plain = step(model, batch, None)
    counts = []
    for _ in range(2):
        with accelerated(model), Operations() as operations:
            found = step(model, batch, None)
        counts.append(sum(operations.found[name] for name in ("mm", "addmm", "addmm_", "add")))
        for name, value in found.items():
            torch.testing.assert_close(value, plain[name], rtol=1e-4, atol=1e-4)  # the plain norms are in float32
        monkeypatch.setattr(SharedInputs, "others", lambda *_: ())  # each by itself
    assert counts[1] - counts[0] >= 2 * 10  # of two layers


def test_who_does_not_ask_is_computed_by_itself_afterwards() -> None:
    """Keys and values of other states than the queries'; and the last layer, whose first tokens alone ask."""
    model = with_lora(tiny_encoder("bert").double(), "all-linear")
    part = model.get_submodule("base_model.model.bert.encoder.layer.0.attention.self")
    one, other = torch.randn(2, 3, 32).double(), torch.randn(2, 3, 32).double()
    with accelerated(model):
        shared = part.query.casts.shared
        assert shared.others(part.query) == (part.key, part.value)
        part.query(one)
        torch.testing.assert_close(part.key(other), super(lora.FusedLora, part.key).forward(other))
        shared.begin()
        assert shared.others(part.query) == ()
    prepare(model.get_base_model(), "auto")
    batch = pad(texts(6, 6), 0)
    expected = sequence_logits(model, batch)
    last = model.get_submodule("base_model.model.bert.encoder.layer.2.attention.self")
    with accelerated(model):
        torch.testing.assert_close(sequence_logits(model, batch), expected)
        shared = last.query.casts.shared
        shared.begin()
        assert shared.others(last.query) == ()
        assert shared.others(last.key) == (last.value,)

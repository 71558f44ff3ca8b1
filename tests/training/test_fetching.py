"""Offloaded layers come one ahead: the guess of which is next, the order on a card, and that nothing else changes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.utils.checkpoint import checkpoint

from peftlab.training.fetching import Course, Fetcher, let_fetch
from peftlab.training.host_memory import LARGEST_BLOCK, HostMemory

CPU = torch.device("cpu")


def a_step(blocks: int, width: int, *, trains: bool = True) -> list[str]:
    """Layers of a step under checkpointing: all blocks, then each again from the last to the first."""
    named = [[f"{block}.{layer}" for layer in range(width)] for block in range(blocks)]
    visits = named + named[::-1] * trains
    return [layer for block in visits for layer in block]


@given(st.integers(1, 5), st.integers(1, 4), st.integers(1, 3))
def test_a_course_that_repeats_is_known(blocks: int, width: int, evaluations: int) -> None:
    course = Course(blocks * width)
    wrong: list[int] = []
    rounds = (
        [a_step(blocks, width)] * 4 + [a_step(blocks, width, trains=False)] * evaluations + [a_step(blocks, width)] * 3
    )
    for layers in rounds:
        guesses = [course.follow(layer) for layer in layers]
        # What comes after the round is another matter.
        wrong.append(sum(guess != layer for guess, layer in zip(guesses, layers[1:], strict=False)))
    assert wrong[3] == 0
    assert wrong[-1] == 0
    assert max(wrong[4:]) <= blocks, "it finds its way again within each block"


def test_the_past_is_not_kept_for_ever() -> None:
    course = Course(6)
    layers = a_step(3, 2)
    for _ in range(50):
        guesses = [course.follow(layer) for layer in layers]
        assert len(course._past) <= 8 * 6
    assert guesses[:-1] == layers[1:]


class Card:
    """Notes what a stand-in for ``torch.cuda`` is asked, in order."""

    def __init__(self) -> None:
        self.noted: list[tuple[Any, ...]] = []
        self.copies = 0

    def Stream(self, _device: Any) -> Any:
        return _Stream(self, "copies")

    def Event(self) -> Any:
        return _Event(self)

    def current_stream(self, _device: Any) -> Any:
        return _Stream(self, "computes")

    def stream(self, _stream: Any) -> Any:
        return torch.no_grad()  # any context


class _Stream:
    def __init__(self, card: Card, name: str) -> None:
        self._card, self._name = card, name

    def wait_stream(self, other: Any) -> None:
        self._card.noted.append((self._name, "waits for", other._name))

    def wait_event(self, event: Any) -> None:
        self._card.noted.append((self._name, "waits for copy", event.number))


class _Event:
    def __init__(self, card: Card) -> None:
        self._card, self.number = card, -1

    def record(self, _stream: Any) -> None:
        self.number = self._card.copies
        self._card.copies += 1
        self._card.noted.append(("copy ends", self.number))


def test_the_order_on_a_card() -> None:
    card = Card()
    weights = {name: {"weight": torch.tensor([float(place)])} for place, name in enumerate("abc")}
    fetcher = Fetcher(weights.__getitem__, CPU, layers=3, cuda=card)
    for _ in range(3):
        for name in "abc":
            assert torch.equal(fetcher.fetch(name)["weight"], weights[name]["weight"])
            card.noted.append(("computes", name))
    first, last = card.noted[:12], card.noted[-12:]
    copy_now = [("copies", "waits for", "computes"), ("copy ends", 0), ("computes", "waits for copy", 0)]
    assert first[:4] == [*copy_now, ("computes", "a")]
    number = last[0][2]
    assert last == [
        step
        for place, name in enumerate("abc")
        for step in (
            ("computes", "waits for copy", number + place),
            ("copies", "waits for", "computes"),
            ("copy ends", number + place + 1),
            ("computes", name),
        )
    ]
    before = card.copies
    fetcher.fetch("c")  # it has brought `a`
    assert card.noted[-6:][0] == ("computes", "waits for copy", before - 1), "the memory is still written to"
    assert card.copies > before


def test_what_is_brought_in_an_evaluation_trains() -> None:
    layer = nn.Linear(3, 3).requires_grad_(False)
    weights = {"layer": {key: tensor.detach() for key, tensor in layer.named_parameters()}}
    fetcher = Fetcher(weights.__getitem__, CPU, layers=1, cuda=Card())
    let_fetch(layer, "layer", fetcher)
    inputs = torch.ones(2, 3, requires_grad=True)
    with torch.inference_mode():
        layer(inputs)
        layer(inputs)
    layer(inputs).sum().backward()
    assert torch.equal(inputs.grad, weights["layer"]["weight"].sum(0).expand(2, 3))


@pytest.mark.parametrize("layers", [None, 4])
def test_outputs_and_gradients_are_those_of_the_plain_model(layers: int | None) -> None:
    torch.manual_seed(0)
    blocks = [nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 4)) for _ in range(2)]
    model = nn.Sequential(*blocks).requires_grad_(False)

    def gradients() -> list[torch.Tensor]:
        found = []
        for step in range(4):
            inputs = torch.full((2, 4), step + 1.0, requires_grad=True)
            hidden: Any = inputs
            for block in blocks:
                hidden = checkpoint(block, hidden, use_reentrant=False, early_stop=False)
            hidden.square().sum().backward()
            assert inputs.grad is not None
            found.append(inputs.grad)
        return found

    expected = gradients()
    named = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    weights = {
        name: {key: tensor.detach() for key, tensor in layer.named_parameters()} for name, layer in named.items()
    }
    fetcher = Fetcher(weights.__getitem__, CPU, layers=layers, cuda=Card())
    for name, layer in named.items():
        let_fetch(layer, name, fetcher)
    assert all(torch.equal(own, other) for own, other in zip(gradients(), expected, strict=True))
    assert all(parameter.is_meta for parameter in model.parameters())


def test_a_forward_that_fails_lets_the_matrix_go() -> None:
    layer = nn.Linear(3, 3).requires_grad_(False)
    let_fetch(layer, "layer", Fetcher(lambda _: {"weight": torch.ones(3, 3), "bias": torch.ones(3)}, CPU))
    with pytest.raises(RuntimeError, match="shapes"):
        layer(torch.ones(2, 4))
    assert all(parameter.is_meta for parameter in layer.parameters())


def test_memory_that_cannot_be_pinned_is_used_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> torch.Tensor:
        raise RuntimeError("CUDA error: out of memory")

    monkeypatch.setattr(torch, "empty", refuse)
    store, weight = HostMemory(pins=True), torch.ones(2)
    store.put("layer", {"weight": weight})
    assert store.is_refused
    assert torch.equal(store.read("layer")["weight"], weight)


def test_pinned_memory_is_hardly_more_than_what_lies_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each matrix by itself would take the next power of two: of Qwen2.5-7B nearly twice as much."""
    asked: list[int] = []

    def block(size: int, **options: Any) -> torch.Tensor:
        assert options == {"dtype": torch.uint8, "pin_memory": True}
        asked.append(size)
        return torch.zeros((), dtype=torch.uint8).expand(size)  # takes no memory: its places are one

    monkeypatch.setattr(torch, "empty", block)
    monkeypatch.setattr(torch.Tensor, "copy_", lambda own, _: own)
    monkeypatch.setattr(torch.Tensor, "view", lambda own, *_: own)
    layer = [3584 * 3584, 512 * 3584, 512 * 3584, 3584 * 3584, *[3584 * 18944] * 3]
    sizes = 28 * [2 * numbers for numbers in layer]
    store = HostMemory(sum(sizes), pins=True)
    for number, size in enumerate(sizes):
        weight = torch.zeros((), dtype=torch.uint8).expand(size)
        store.put(str(number), {"weight": weight})
    assert not store.is_refused
    assert all(size & (size - 1) == 0 and size <= LARGEST_BLOCK for size in asked)
    assert sum(sizes) <= sum(asked) < 1.05 * sum(sizes)


@given(
    st.lists(st.tuples(st.sampled_from([torch.float32, torch.bfloat16, torch.uint8]), st.integers(0, 40)), max_size=12)
)
def test_what_was_put_into_pinned_memory_is_read_again(kinds: list[tuple[torch.dtype, int]]) -> None:
    generator, own = torch.Generator().manual_seed(0), torch.empty
    tensors = [torch.randint(200, (rows, 7), generator=generator).to(kind) for kind, rows in kinds]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(torch, "empty", lambda size, dtype, pin_memory: own(size, dtype=dtype))
        store = HostMemory(sum(tensor.nbytes for tensor in tensors), pins=True)
        for number, tensor in enumerate(tensors):
            store.put(str(number), {"weight": tensor, "again": tensor + 1})
    for number, tensor in enumerate(tensors):
        assert torch.equal(store.read(str(number))["weight"], tensor)
        assert torch.equal(store.read(str(number))["again"], tensor + 1)

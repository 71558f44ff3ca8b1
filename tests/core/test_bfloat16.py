"""A card that only emulates bfloat16 computes in float32, and estimates for it say so."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from peftlab.core.bfloat16 import card_has_bfloat16
from peftlab.models.base_model import resolve_dtype
from peftlab.training.accelerator import autocast_dtype, why_slow

CUDA = torch.device("cuda")


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch):
    """Puts a card of some compute capability into this machine, as far as torch's question goes."""

    def put(major: int) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _device: SimpleNamespace(major=major))
        monkeypatch.setattr(torch.cuda, "_check_bf16_tensor_supported", lambda _device: True)  # by emulation

    return put


@pytest.mark.parametrize("major", [6, 7])
def test_emulation_does_not_count(major: int, card) -> None:
    card(major)
    assert torch.cuda.is_bf16_supported()
    assert not card_has_bfloat16()
    assert resolve_dtype("auto", device=CUDA, base_is_frozen=True) is torch.float32
    assert autocast_dtype("auto", device=CUDA, weights=torch.float32) is None


@pytest.mark.parametrize("major", [8, 9, 10])
def test_units_for_it_count(major: int, card) -> None:
    card(major)
    assert card_has_bfloat16()
    assert resolve_dtype("auto", device=CUDA, base_is_frozen=True) is torch.bfloat16
    assert resolve_dtype("auto", device=CUDA, base_is_frozen=False) is torch.float32
    assert autocast_dtype("auto", device=CUDA, weights=torch.float32) is torch.bfloat16


def test_what_a_recipe_says_is_done_and_told(card) -> None:
    card(8)
    assert why_slow(torch.bfloat16, torch.bfloat16, device=CUDA) is None
    card(7)
    for kinds in ((torch.bfloat16, torch.bfloat16), (torch.float32, torch.bfloat16)):
        assert "set model.dtype" in why_slow(*kinds, device=CUDA)
        assert why_slow(*kinds, device=torch.device("cpu")) is None
    assert why_slow(torch.float16, torch.float16, device=CUDA) is None
    assert resolve_dtype("bfloat16", device=CUDA, base_is_frozen=True) is torch.bfloat16
    assert autocast_dtype("bfloat16", device=CUDA, weights=torch.float32) is torch.bfloat16


def test_a_card_that_is_not_here_is_taken_for_a_new_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert card_has_bfloat16()
    assert resolve_dtype("auto", device=CUDA, base_is_frozen=True) is torch.bfloat16

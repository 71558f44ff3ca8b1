"""Sizes of memory, and the device that an estimate is for."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from peftlab.core.errors import UserError
from peftlab.estimate.target import Target, cuda_memory, find_target, parse_memory, system_memory
from peftlab.run.loading_stage import target_of


@pytest.mark.parametrize(
    ("text", "size"),
    [("8GB", 8 * 10**9), ("8 gb", 8 * 10**9), ("7.5GiB", int(7.5 * 2**30)), ("800MB", 8 * 10**8), ("123B", 123), ("1kib", 1024)],
)  # fmt: skip
def test_sizes(text: str, size: int) -> None:
    assert parse_memory(text) == size


@given(st.integers(1, 10**6), st.sampled_from(["B", "KB", "MB", "GB", "KiB", "MiB", "GiB", "TiB"]))
def test_more_is_more(number: int, unit: str) -> None:
    assert parse_memory(f"{number + 1}{unit}") > parse_memory(f"{number}{unit}") >= number


@pytest.mark.parametrize("text", ["8", "16", " 7.5 ", "8000000000"])
def test_a_number_without_a_unit_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="has no unit") as caught:
        parse_memory(text)
    assert f"{text.strip()}GB" in str(caught.value.hint)


@pytest.mark.parametrize("text", ["", "eight", "8XB", "-8GB", "0GB", "8GB8", "GB"])
def test_what_is_no_size_is_told(text: str) -> None:
    with pytest.raises(UserError, match="is no size of memory") as caught:
        parse_memory(text)
    assert "8GB" in str(caught.value.hint)


def test_what_the_user_says_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PEFTLAB_MEMORY", "2GB")
    assert find_target("cuda", "1GB").memory_bytes == 10**9
    assert find_target("cpu").memory_bytes == 2 * 10**9
    monkeypatch.delenv("PEFTLAB_MEMORY")
    assert find_target("cpu").memory_bytes == system_memory()


@pytest.mark.parametrize(
    ("visible", "first", "second"),
    [(None, 24576, 8192), ("1", 8192, None), ("1,0", 8192, 24576), ("GPU-b", 8192, None), ("", None, None),
     ("-1", None, None), ("7", None, None), ("MIG-c3,0", 9537, 24576), ("MIG-d,MIG-e", 19073, None)],
)  # fmt: skip
def test_the_memory_of_the_card_that_cuda_counts(
    visible: str | None, first: int | None, second: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver tells of all cards of the machine; of a part of one (MIG), only its profile."""
    driver = tmp_path / "nvidia-smi"
    driver.write_text(
        "#!/bin/sh\nif [ $1 = -L ]; then\necho 'GPU 0: NVIDIA A100-SXM4-80GB (UUID: GPU-a1)'\n"
        "echo '  MIG 1g.10gb     Device  0: (UUID: MIG-c3)'\necho '  MIG 1c.2g.20gb+me Device  1: (UUID: MIG-d4)'\n"
        "else\necho GPU-a1, 24576\necho GPU-b2, 8192\nfi\n"
    )
    driver.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    found = [cuda_memory(), cuda_memory(1)]
    assert [None if size is None else round(size / 2**20) for size in found] == [first, second]


def test_several_gpus_are_not_verified() -> None:
    assert find_target("cpu", "1GB").is_verified
    one = find_target("cuda", "1GB")
    assert one.is_verified
    assert not replace(one, processes=2).is_verified


def test_a_run_has_what_is_free_of_its_own_card(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another card of the machine may be smaller; and what torch keeps of earlier work is free for the next."""
    monkeypatch.setattr("peftlab.estimate.target.cuda_memory", lambda index=0: 8 * 10**9)
    free = {"mem_get_info": lambda _: (60 * 10**9, 80 * 10**9), "memory_reserved": lambda _: 7 * 10**9}
    for name, answer in {**free, "memory_allocated": lambda _: 2 * 10**9}.items():
        monkeypatch.setattr(torch.cuda, name, answer)
    card = torch.device("cuda", 1)
    assert target_of(card) == Target("cuda", 65 * 10**9)
    monkeypatch.setenv("PEFTLAB_MEMORY", "24GB")
    assert target_of(card) == Target("cuda", 24 * 10**9)
    monkeypatch.setenv("PEFTLAB_MEMORY", "100GB")
    assert target_of(card) == Target("cuda", 65 * 10**9)

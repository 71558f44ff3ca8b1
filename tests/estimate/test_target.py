"""Sizes of memory, and the device that an estimate is for."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from peftlab.core.errors import UserError
from peftlab.estimate.cuda_driver import cuda_memory
from peftlab.estimate.target import Target, find_target, parse_memory, system_memory
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


DRIVER = """
int cuInit(unsigned flags) { return flags; }
int cuDeviceGet(int *device, int index) { *device = index + 7; return index < 2 ? 0 : 101; }
int cuDeviceTotalMem_v2(unsigned long *size, int device) { *size = device == 7 ? 25386352640 : 8361345024; return 0; }
"""
"""Of two cards CUDA has the faster one first, and nvidia-smi the one in the first place; so it is by default."""


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")
def test_the_memory_of_the_card_that_cuda_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    smi = tmp_path / "nvidia-smi"
    smi.write_text("#!/bin/sh\necho GPU-b2, 8192\necho GPU-a1, 24576\n")
    smi.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    (tmp_path / "driver.c").write_text(DRIVER)
    subprocess.run(["cc", "-shared", "-o", tmp_path / "libcuda.so.1", tmp_path / "driver.c"], check=True)
    assert [cuda_memory(index) for index in (0, 1, 2)] == [25386352640, 8361345024, None]
    assert find_target() == Target("cuda", 25386352640)
    assert find_target("cuda:1") == Target("cuda", 8361345024)
    for count in (2, 3):
        assert find_target("cuda", processes=count) == Target("cuda", 8361345024, count), (
            "the smallest must hold its part"
        )


def test_without_a_driver_there_is_no_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "libcuda.so.1").write_text("no library")
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    assert cuda_memory() is None
    assert find_target().name == "cpu"


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

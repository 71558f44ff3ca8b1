"""A service puts adapters into one model where they were tuned on one base, and on no other."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from peftlab.serving.host import Host

pytestmark = pytest.mark.slow


def test_an_adapter_does_not_join_a_base_that_was_overwritten_since(
    tiny_bert: Path, tiny_run: Callable[..., Path], tmp_path: Path
) -> None:
    """Its recipe names the same folder; it answered by the weights that had been there before."""
    base, host = Path(shutil.copytree(tiny_bert, tmp_path / "base")), Host(offline=True)
    host.add("first", tiny_run(base=base, steps=2))
    weights = load_file(base / "model.safetensors")
    save_file({name: each * 1.01 for name, each in weights.items()}, base / "model.safetensors", {"format": "pt"})
    host.add("later", tiny_run(base=base, steps=3))
    host.add("latest", tiny_run(base=base, steps=4))
    first, later, latest = (host.models[name].group for name in ("first", "later", "latest"))
    assert first is not later
    assert later is latest

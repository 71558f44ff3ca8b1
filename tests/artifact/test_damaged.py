"""A folder of weights that is not whole gets a message with the file's name, from every verb; never other answers."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Command

pytestmark = pytest.mark.slow

RUNS = {"adapter": "{type: lora, rank: 4}", "delta": "{type: bitfit}", "model": "{type: full}"}
DAMAGE: dict[str, Callable[[Path], object]] = {
    "deleted": Path.unlink,
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-9]),
    "garbage": lambda path: path.write_bytes(b"\xff\xfe\x00garbage"),
    "empty": lambda path: path.write_bytes(b""),
}
FILES = ["weights", "config.json", "tokenizer.json", "tokenizer_config.json", "settings"]
NAMES = {
    ("adapter", "weights"): "adapter_model.safetensors",
    ("delta", "weights"): "adapter_model.safetensors",
    ("model", "weights"): "model.safetensors",
    ("adapter", "settings"): "adapter_config.json",
    ("delta", "settings"): "peftlab_adapter.json",
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("kind", RUNS)
def test_a_file_that_is_not_as_it_was(
    kind: str, file: str, damage: str, command: Command, tiny_run: Callable[..., Path], tmp_path: Path
) -> None:
    name = NAMES.get((kind, file), file)
    if name == "settings":
        pytest.skip("a whole model has none")
    shutil.copytree(tiny_run(RUNS[kind]), tmp_path / "run")
    DAMAGE[damage](next((tmp_path / "run").glob(f"*/{name}")))
    for words in (["predict", "run", "a good film"], ["export", "run", "--format", "merged", "--output", "out"]):
        done = command(*words)
        assert done.returncode == 2, done.stderr
        assert "Traceback" not in done.stderr
        expected = "not whole" if damage == "deleted" else "damaged"
        assert expected in done.stderr
        assert (damage == "deleted" and file == "settings") or name in done.stderr
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_an_export_that_is_not_as_it_was(
    name: str, damage: str, command: Command, tiny_run: Callable[..., Path], tmp_path: Path
) -> None:
    assert command("export", tiny_run(), "--format", "merged", "--output", "out").returncode == 0
    DAMAGE[damage](tmp_path / "out" / name)
    done = command("predict", "out", "a good film")
    assert done.returncode == 2
    assert name in done.stderr
    assert "Traceback" not in done.stderr

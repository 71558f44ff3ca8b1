"""Names that other tools use get the right one as a suggestion."""

from __future__ import annotations

from pathlib import Path

import pytest

from peftlab.cli.app import app
from peftlab.cli.verbs import OTHER_NAMES
from tests.conftest import Command


@pytest.mark.parametrize(
    ("word", "verb"),
    [
        ("train", "run"),
        ("finetune", "run"),
        ("ft", "run"),
        ("test", "evaluate"),
        ("infer", "predict"),
        ("Train", "run"),
        ("predcit", "predict"),
        ("trian", "run"),
        ("tunee", "tune"),
    ],
)
def test_verbs(word: str, verb: str, command: Command) -> None:
    done = command(word, "recipe.yaml")
    assert done.returncode == 2
    assert f"'{verb}'" in done.stderr


def test_what_is_suggested_is_there_and_hides_no_verb() -> None:
    verbs = {entry.name or entry.callback.__name__ for entry in app.registered_commands if entry.callback}
    assert set(OTHER_NAMES.values()) <= verbs
    assert not set(OTHER_NAMES) & verbs


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("qlora", "quantization: nf4"),
        ("QLoRA", "quantization: nf4"),
        ("(ia)3", "`ia3`"),
        ("IA3", "`ia3`"),
        ("LoRA", "`lora`"),
        ("bit-fit", "`bitfit`"),
        ("prefix", "`prefix_tuning`"),
        ("full_fine_tuning", "`full`"),
        ("adapter", "houlsby_adapter"),
        ("loar", "`lora`"),
    ],
)
def test_methods(name: str, hint: str, command: Command, recipe: Path) -> None:
    done = command("validate", recipe, "--set", f"method.type='{name}'")
    assert done.returncode == 2
    assert hint in done.stderr

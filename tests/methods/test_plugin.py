"""A package of somebody else's adds a method; a broken one breaks nothing."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.forks import run_forked

pytestmark = pytest.mark.slow

GOOD = '''
"""A method of another package."""
from pydantic import Field, PositiveInt

from peftlab import METHODS, Method


@METHODS.register("tiny_lora")
class TinyLora(Method):
    """LoRA of rank one on the queries."""

    alpha: PositiveInt = Field(1, description="Numerator of the scaling.")

    def apply(self, model, context):
        import peft

        return peft.get_peft_model(
            model, peft.LoraConfig(task_type=context.peft_task_type, r=1, lora_alpha=self.alpha, target_modules=["query"])
        )
'''
BARE = '''
from peftlab import Method


class Nothing(Method):
    """Trains the head, registered by its entry point alone."""

    def apply(self, model, context):
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name.startswith(context.head_modules))
        return model
'''


def install(site: Path, name: str, source: str, target: str, *, group: str = "peftlab.methods") -> None:
    (site / f"{name}.py").write_text(source)
    info = site / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{group}]\n{target}\n")


def peftlab(site: Path, *commands: tuple[object, ...]) -> list[tuple[int, str, str]]:
    """Exit code, output and errors of commands, each in a process that finds the plugins."""
    environment = {**os.environ, "PYTHONPATH": str(site)}
    done = [run_forked(*arguments, folder=site, environment=environment) for arguments in commands]
    return [(each.returncode, each.stdout, each.stderr) for each in done]


def test_methods_of_other_packages(tmp_path: Path, tiny_bert: Path, reviews: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    install(site, "good_plugin", GOOD, "tiny_lora = good_plugin")
    install(site, "bare_plugin", BARE, "nothing_much = bare_plugin:Nothing")
    install(site, "broken_plugin", "import does_not_exist", "broken = broken_plugin")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"model: {{path: {tiny_bert}}}\ntask: {{type: text_classification, max_length: 32}}\n"
        f"data: {{source: {reviews}}}\nmethod: {{type: tiny_lora, alpha: 3}}\n"
        "training: {max_steps: 5, learning_rate: 1e-2, batch_size: 8}\n"
    )
    listed, schema, done, bare, unknown = peftlab(
        site,
        ("ls", "methods", "--json"),
        ("schema", "recipe"),
        ("run", recipe, "--output-dir", tmp_path / "out", "--json"),
        (
            "run",
            recipe,
            "--output-dir",
            tmp_path / "bare",
            "--json",
            "--set",
            "method.type=nothing_much",
            "--set",
            "measure=false",
        ),
        ("run", recipe, "--set", "method.type=brokn"),
    )
    code, output, errors = listed
    assert code == 0, errors
    answer = json.loads(output)
    assert {"tiny_lora", "nothing_much", "lora"} <= {entry["name"] for entry in answer["methods"]}
    assert "does_not_exist" in answer["broken"]["broken"]
    assert "alpha" in json.loads(schema[1])["$defs"]["method.tiny_lora"]["properties"]
    code, output, errors = done
    assert code == 0, errors
    assert json.loads(output)["recipe"]["method"] == {"type": "tiny_lora", "alpha": 3}
    assert bare[0] == 0, bare[2]
    assert unknown[0] == 2
    assert "The plugin `broken` could not be loaded" in unknown[2]

"""A package of somebody else's adds a method; a broken one breaks nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
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


SEVERAL = """
import contextlib, io, json, sys
from peftlab.cli.app import main

outcomes = []
for arguments in json.load(sys.stdin):
    sys.argv, code = ["peftlab", *arguments], 0
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
    outcomes.append([code, out.getvalue(), err.getvalue()])
print(json.dumps(outcomes))
"""


def peftlab(site: Path, *commands: tuple[object, ...]) -> list[tuple[int, str, str]]:
    """Exit code, output and errors of commands, one after the other in one fresh process that finds the plugins."""
    done = subprocess.run(
        [sys.executable, "-c", SEVERAL],
        input=json.dumps([list(map(str, arguments)) for arguments in commands]),
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(site), str(REPOSITORY)])},
        capture_output=True,
        text=True,
        cwd=site,
    )
    assert done.returncode == 0, done.stderr
    return [tuple(outcome) for outcome in json.loads(done.stdout)]


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
        ("run", recipe, "--output-dir", tmp_path / "bare", "--json", "--set", "method.type=nothing_much"),
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

"""A package of somebody else's adds a regulariser with a guard; broken ones break nothing; recipes are strict."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from peftlab import REGULARIZERS, Regularizer
from peftlab.core.errors import ConfigError
from peftlab.core.regularizer import check_together
from peftlab.recipe.json_schema import recipe_schema
from peftlab.recipe.schema import load_recipe
from tests.methods.test_plugin import install, peftlab

pytestmark = pytest.mark.slow

SHRINK = '''
"""A regulariser of another package."""
from pydantic import PositiveFloat

from peftlab import REGULARIZERS, Guard, Regularizer


@REGULARIZERS.register("shrink")
class Shrink(Regularizer):
    """Shrinks what trains, and has a guard that fails."""

    guard_names = {"weights_shrank": "the weights are small"}

    strength: PositiveFloat = 1e-3

    def penalty(self, model):
        return self.strength * sum(p.square().sum() for p in model.parameters() if p.requires_grad)

    def guards(self, model, context):
        return {"weights_shrank": Guard.check(False, f"after {context.total_steps} steps they are not")}
'''
CLASH = """
from peftlab import REGULARIZERS, Regularizer


@REGULARIZERS.register("fgm")
class Fgm(Regularizer):
    pass
"""
RECIPE = """\
model: {{path: {model}}}
task: {{type: text_classification, max_length: 32}}
data: {{source: {data}, validation_fraction: 0.25, test_fraction: 0.25}}
method: {{type: lora}}
training:
  max_steps: 16
  batch_size: 8
  learning_rate: 1e-2
  regularizers:
  - type: fgm
    epsilon: 0.5
  - {{type: label_smoothing}}
  - {{type: ema, decay: 0.5}}
  - {{type: l2_sp}}
  - {{type: {last}}}
evaluation: {{every: 8}}
"""


def test_a_regularizer_of_another_package(tmp_path: Path, tiny_bert: Path, reviews: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    for name, source in (("shrink", SHRINK), ("clash", CLASH), ("broken", "import does_not_exist")):
        install(site, f"own_{name}", source, f"{name} = own_{name}", group="peftlab.regularizers")
    recipe, other = tmp_path / "recipe.yaml", tmp_path / "other.yaml"
    recipe.write_text(RECIPE.format(model=tiny_bert, data=reviews, last="shrink, strength: 1e-4"))
    other.write_text(RECIPE.format(model=tiny_bert, data=reviews, last="broken"))
    short = ("--set", "measure=false", "--set", "training.max_steps=4")
    waived, misspelt = ("--set", "waive_guards=[weights_shrank]"), ("--set", "waive_guards=[weights_shrnk]")
    listed, told, schema, failed, done, unknown, old, again, estimated = peftlab(
        site,
        ("ls", "regularizers", "--json"),
        ("ls", "regularizers"),
        ("schema", "recipe"),
        ("run", recipe, "--output-dir", tmp_path / "failed", "--json", *short),
        ("run", recipe, "--output-dir", tmp_path / "done", "--json", *waived),
        ("validate", recipe, *misspelt),
        ("validate", other),
        ("reproduce", tmp_path / "done", "--output-dir", tmp_path / "again", "--json"),
        ("estimate", recipe, "--json"),
    )
    entries = json.loads(listed[1])
    found = {entry["name"]: entry for entry in entries["regularizers"]}
    assert {"fgm", "ema", "label_smoothing", "shrink"} <= found.keys()
    assert (found["fgm"]["passes"], found["fgm"]["paper"]) == (2.0, "https://arxiv.org/abs/1605.07725")
    assert "registered twice" in entries["broken"]["clash"]
    assert "Passes: 2" in told[1]
    assert "The plugin `broken` could not be loaded" in told[2]
    assert "strength" in json.loads(schema[1])["$defs"]["regularizer.shrink"]["properties"]
    assert failed[0] == 1
    assert "weights_shrank: after 4 steps they are not" in json.loads(failed[1])["error"]
    assert done[0] == 0, done[2]
    record = json.loads(done[1])
    assert record["guards"]["weights_shrank"]["waived"]
    assert record["guards"]["reload_agrees"]["status"] == "passed"
    assert [each["type"] for each in record["recipe"]["training"]["regularizers"]] == [
        "fgm", "label_smoothing", "ema", "l2_sp", "shrink",
    ]  # fmt: skip
    assert unknown[0] == 2
    assert "waive_guards: this run has no guard `weights_shrnk`. Did you mean `weights_shrank`?" in unknown[2]
    assert old[0] == 2
    assert "other.yaml:15: training.regularizers.4.type: unknown regularizer `broken`" in old[2]
    assert again[0] == 0, again[2]
    assert json.loads(estimated[1])["phases"]["train"] == pytest.approx(
        record["phases"]["train"]["peak_memory_bytes"], rel=0.03
    )


@pytest.mark.parametrize(
    ("written", "line", "said"),
    [
        ("[{type: fgm, epsilom: 1}]", 8, "training.regularizers.0.epsilom: unknown key"),
        ("[{type: fgm, epsilon: -1}]", 8, "training.regularizers.0.epsilon: "),
        ("[{type: fgn}]", 8, "training.regularizers.0.type: unknown regularizer `fgn`"),
        ("[fgm]", 8, "training.regularizers.0: a mapping is needed, not 'fgm'\n  Write `regularizers: [{type: fgm}]`."),
        ("[{epsilon: 1}]", 8, "training.regularizers.0: the key `type` is required"),
        ("fgm", 8, "training.regularizers: "),
        ("[{type: fgm}, {type: fgm}]", 8, "training.regularizers: the regularizer `fgm` is there twice"),
    ],
)
def test_mistakes_are_told_with_their_line(written: str, line: int, said: str, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(
        "model: {path: none}\ntask: {type: text_classification}\ndata: {source: none.csv}\nmethod: {type: lora}\n"
        f"training:\n  epochs: 1\n\n  regularizers: {written}\n"
    )
    with pytest.raises(ConfigError) as caught:
        load_recipe(path)
    assert f"recipe.yaml:{line}: {said}" in str(caught.value)


def test_the_schema_knows_what_the_loader_knows(tmp_path: Path) -> None:
    values = {
        "model": {"path": "none"},
        "task": {"type": "text_classification"},
        "data": {"source": "none.csv"},
        "method": {"type": "lora"},
        "training": {"regularizers": [{"type": "fgm", "epsilon": 1.0}]},
    }
    schema = recipe_schema()
    jsonschema.validate(values, schema)
    values["training"]["regularizers"][0]["epsilom"] = 1.0
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(values, schema)


def test_regularizers_that_contradict_each_other_are_refused() -> None:
    class Jealous(Regularizer):
        not_with = ("fgm",)

    with pytest.raises(ConfigError, match="contradict each other"):
        check_together([REGULARIZERS["fgm"](), Jealous()])
    for one, other in (("debiasing", "r_drop"), ("mixup", "debiasing"), ("smart", "debiasing"), ("uda", "mixup")):
        with pytest.raises(
            ConfigError, match=f"`{one}` and `{other}` contradict each other: each has a loss of its own"
        ):
            check_together([REGULARIZERS[one](), REGULARIZERS["ema"](), REGULARIZERS[other]()])

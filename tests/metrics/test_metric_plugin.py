"""A package of somebody else's adds a metric: lower is better, and everything that ranks goes by that."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.forks import run_forked
from tests.methods.test_plugin import install

pytestmark = pytest.mark.slow

METRIC = '''
"""What wrong answers cost."""
import numpy as np

from peftlab import METRICS, Metric


@METRICS.register("cost")
class Cost(Metric):
    """Mean cost of an answer: 1 for a wrong one, 2 where it praises."""

    higher_is_better = False
    range = (0.0, 2.0)
    tasks = ("text_classification",)

    @classmethod
    def per_example(cls, labels, predictions):
        pairs = zip(labels, predictions, strict=True)
        return np.array([(label != said) * (2 if said == "good" else 1) for label, said in pairs], np.float64)
'''
WITHOUT_DIRECTION = '''
from peftlab import METRICS, Metric


@METRICS.register("nowhere")
class Nowhere(Metric):
    """No direction."""
'''
RECIPE = """\
model: {{path: {model}}}
task: {{type: text_classification, max_length: 32}}
data: {{source: {data}, validation_fraction: 0.25, test_fraction: 0.25}}
method: {{type: {method}}}
measure: false
training: {{max_steps: 40, batch_size: 8, learning_rate: 2e-2}}
evaluation: {{metric: {metric}, every: 8}}
"""


@pytest.fixture
def peftlab(tmp_path: Path):
    site = tmp_path / "site"
    site.mkdir()
    install(site, "own_metric", METRIC, "cost = own_metric", group="peftlab.metrics")
    install(site, "broken_metric", WITHOUT_DIRECTION, "nowhere = broken_metric", group="peftlab.metrics")

    def run(*arguments: object, with_plugins: bool = True) -> subprocess.CompletedProcess[str]:
        path = os.pathsep.join([*([str(site)] if with_plugins else []), os.environ.get("PYTHONPATH", "")])
        return run_forked(*arguments, folder=tmp_path, environment={**os.environ, "PYTHONPATH": path})

    return run


def test_a_metric_of_another_package_chooses_and_ranks(peftlab, tmp_path: Path, tiny_bert: Path, reviews: Path) -> None:
    listed = peftlab("ls", "metrics")
    (line,) = [line for line in listed.stdout.splitlines() if line.startswith("cost")]
    assert line.endswith("Lower is better. (text_classification)")
    assert "`nowhere` could not be loaded" in listed.stderr
    assert "whether higher is better" in listed.stderr
    found = {}
    for method in ("lora", "linear_probe"):
        values = {"model": tiny_bert, "data": reviews, "method": method, "metric": "cost"}
        (tmp_path / f"{method}.yaml").write_text(RECIPE.format(**values))
        done = peftlab("run", f"{method}.yaml", "--output-dir", method, "--json")
        assert done.returncode == 0, done.stderr
        record = json.loads(done.stdout)
        lines = [json.loads(line) for line in (tmp_path / method / "metrics.jsonl").read_text().splitlines()]
        evaluated = {line["step"]: line["validation"]["cost"] for line in lines if "validation" in line}
        assert len(set(evaluated.values())) > 1
        assert evaluated[record["best_step"]] == min(evaluated.values())
        found[method] = record["scores"]["test"]["cost"]
    report = json.loads(peftlab("report", "lora", "linear_probe", "--json").stdout)
    assert report["comparisons"][0]["metric"] == "cost"
    ranked = [report["methods"][name] for name in report["comparisons"][0]["methods"]]
    assert [method["mean"] for method in ranked] == pytest.approx(sorted(found.values()))
    assert all(method["interval"][0] >= 0 for method in ranked)
    unknown = peftlab("report", "lora", "linear_probe", "--json", with_plugins=False)
    assert "which direction of `cost` is better is not known here" in unknown.stdout + unknown.stderr


@pytest.mark.parametrize(
    ("metric", "said"), [("nowhere", "no metric `nowhere`"), ("kost", "cost"), ("mean_absolute_error", "no metric")]
)
def test_a_metric_that_cannot_be_had_is_refused(
    peftlab, metric: str, said: str, tmp_path: Path, tiny_bert: Path, reviews: Path
) -> None:
    text = RECIPE.format(model=tiny_bert, data=reviews, method="lora", metric=metric)
    (tmp_path / "recipe.yaml").write_text(text)
    done = peftlab("validate", "recipe.yaml")
    assert done.returncode == 2
    assert said in done.stdout + done.stderr

"""A package of somebody else's adds a task and its metric in one file; broken ones break nothing, and say why."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from peftlab.core.capabilities import EmbedsText
from peftlab.core.errors import ConfigError
from peftlab.core.task import TASKS, Task
from tests.methods.test_plugin import install, peftlab

pytestmark = pytest.mark.slow

TASK = Path(__file__).with_name("paraphrases.py").read_text()
WORDS = {"good": "great", "bad": "awful", "film": "day", "saw": "was", "town": "it", "happy": "lovely", "dark": "sad"}
INCOMPLETE = "from peftlab import TASKS, Task\n\n\n@TASKS.register('half')\nclass Half(Task):\n    '''Half.'''\n"
BOASTING = (
    TASK.replace("def embeddings(", "def vectors_of(")
    .replace('"paraphrases"', '"boasting"')
    .replace("own_is_nearest", "recall_of_mine")
)
GREEDY = TASK.replace("own_is_nearest", "recall")
RECIPE = """\
model: {{path: {model}}}
task: {{type: paraphrases, max_length: 16}}
data: {{source: {data}, validation_fraction: 0.25, test_fraction: 0.25}}
method: {{type: lora}}
training: {{max_steps: 30, batch_size: 8, learning_rate: 2e-2}}
"""


def write_pairs(path: Path, count: int = 96) -> Path:
    """Texts, and the same with other words."""
    generator, rows = random.Random(0), dict[str, str]()
    while len(rows) < count:
        words = generator.choices(list(WORDS), k=generator.randint(3, 9))
        rows.setdefault(" ".join(words), " ".join(WORDS[word] for word in words))
    path.write_text("text,paraphrase\n" + "".join(f"{text},{other}\n" for text, other in rows.items()))
    return path


def test_a_task_of_another_package(tmp_path: Path, tiny_bert: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    for name, source in (("paraphrases", TASK), ("half", INCOMPLETE), ("boasting", BOASTING), ("greedy", GREEDY)):
        install(site, name, source, f"{name} = {name}", group="peftlab.tasks")
    recipe, run = tmp_path / "recipe.yaml", tmp_path / "run"
    recipe.write_text(RECIPE.format(model=tiny_bert, data=write_pairs(tmp_path / "pairs.csv")))
    outcomes = peftlab(
        site,
        ("ls", "tasks", "--json"),
        ("ls", "metrics", "--json"),
        ("validate", recipe),
        ("run", recipe, "--output-dir", run, "--json"),
        ("estimate", recipe, "--json"),
        ("predict", run, "good film", "dark town"),
        ("report", run, "--json"),
        ("validate", recipe, "--set", "training.gradient_accumulation_steps=2"),
        ("validate", recipe, "--set", "task.type=half"),
    )
    tasks, metrics, valid, done, estimate, predicted, report, cut, unknown = outcomes
    for code, _, errors in (tasks, metrics, valid, done, estimate, predicted, report):
        assert code == 0, errors
    answer = json.loads(tasks[1])
    assert "paraphrases" in {entry["name"] for entry in answer["tasks"]}
    assert "does not define collate, encode, logits, loss, predict, text_columns, metrics" in answer["broken"]["half"]
    assert "declares EmbedsText, but has no embeddings" in answer["broken"]["boasting"]
    assert "`recall` is registered twice: by peftlab.metrics.classes and by greedy" in answer["broken"]["greedy"]
    (metric,) = [entry for entry in json.loads(metrics[1])["metrics"] if entry["name"] == "own_is_nearest"]
    assert "Higher is better. (paraphrases)" in metric["description"]
    record = json.loads(done[1])
    scores = {split: values["own_is_nearest"] for split, values in record["scores"].items()}
    assert min(scores.values()) > 0.2, scores  # by chance 1/24
    assert record["guards"]["reload_agrees"]["status"] == "passed"
    losses = [
        line for line in map(json.loads, (run / "metrics.jsonl").read_text().splitlines()) if "validation" in line
    ]
    assert all("loss" in line["validation"] for line in losses)
    measured, estimated = record["memory"]["peak_bytes"], json.loads(estimate[1])["phases"]["train"]
    assert estimated == pytest.approx(measured, rel=0.05)
    vectors = [[float(number) for number in line.partition("\t")[0].split(", ")] for line in predicted[1].splitlines()]
    assert [len(vector) for vector in vectors] == [32, 32]
    assert [sum(value**2 for value in vector) for vector in vectors] == pytest.approx([1, 1], rel=1e-4)
    assert "transformers.AutoModel.from_pretrained(" in (run / "adapter" / "README.md").read_text()
    reported = json.loads(report[1])
    (comparison,) = reported["comparisons"]
    assert reported["methods"][comparison["methods"][0]]["mean"] == pytest.approx(scores["test"])
    assert cut[0] == 2
    assert "compares the examples of a batch with one another" in cut[2]
    assert unknown[0] == 2
    assert "The plugin `half` could not be loaded" in unknown[2]


def test_what_is_declared_must_be_there() -> None:
    with pytest.raises(ConfigError, match="declares EmbedsText, but has no embedding_examples, embeddings"):

        class Boasting(Task):
            """Says more than it can."""

            capabilities = (EmbedsText,)

    with pytest.raises(ConfigError, match="which is unknown"):

        class Inventing(Task):
            """Says what nothing knows."""

            capabilities = (int,)

    assert not any(name in TASKS for name in ("boasting", "inventing"))

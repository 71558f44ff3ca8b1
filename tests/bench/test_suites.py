"""What a suite may say, and what it is told when it says something else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from peftlab.bench.cells import expand_cells
from peftlab.bench.suite import load_suite, suite_schema, write_suite
from peftlab.core.errors import ConfigError
from tests.conftest import REPOSITORY

SUITES = sorted((REPOSITORY / "benchmarks" / "suites").glob("*.yaml"))
RECIPE = """\
name: tiny
seed: 7
model: {path: some/model}
task: {type: text_classification, max_length: 32}
data: {source: reviews.csv, validation_fraction: 0.2}
method: {type: lora, rank: 4}
training: {epochs: 3, learning_rate: 2e-2}
"""
SUITE = """\
name: tiny
recipe: recipe.yaml
set: {training.batch_size: 8}
methods:
  - {type: full, set: {training.epochs: 1}}
  - {name: small, type: lora, rank: 2}
axes:
  data:
    few: {data.max_train_examples: 20}
    many: {data.max_train_examples: 100}
seeds: [0, 1]
tuning: {trials: 4, learning_rate: [1e-4, 1e-1]}
"""


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    path = tmp_path / "suite.yaml"
    path.write_text(SUITE)
    return path


def test_there_are_suites() -> None:
    assert {path.stem for path in SUITES} >= {"smoke", "tweet_sentiment", "low_data", "glue"}


@pytest.mark.parametrize("path", SUITES, ids=lambda path: path.stem)
def test_every_shipped_suite_loads_and_names_the_schema(path: Path) -> None:
    suite, document = load_suite(path)
    assert expand_cells(suite, document)
    assert path.read_text().startswith("# yaml-language-server: $schema=../../peftlab/schemas/suite.schema.json\n")


def test_the_shipped_schema_is_the_current_one() -> None:
    shipped = REPOSITORY / "peftlab" / "schemas" / "suite.schema.json"
    assert json.loads(shipped.read_text()) == suite_schema()


def test_shipped_suites_satisfy_the_schema() -> None:
    import jsonschema

    from peftlab.core.config import read_yaml

    assert SUITES
    schema = suite_schema()
    kind = jsonschema.validators.validator_for(schema)
    kind.check_schema(schema)  # once: it takes longer than a suite
    for path in SUITES:
        errors = [f"{path.name}: {error.message}" for error in kind(schema).iter_errors(read_yaml(path).values)]
        assert errors == []


def test_cells_are_methods_crossed_with_axes(suite: Path) -> None:
    cells = expand_cells(*load_suite(suite))
    assert [cell.name for cell in cells] == ["full--few", "small--few", "full--many", "small--many"]
    recipe = cells[1].recipe({"training.learning_rate": 1e-3}, seed=5)
    assert (recipe.name, recipe.seed, recipe.data.split_seed) == ("small--few", 5, 7)
    assert recipe.method.model_dump()["rank"] == 2
    assert recipe.training.learning_rate == 1e-3
    assert (recipe.training.epochs, recipe.training.batch_size) == (3, 8)
    assert cells[2].recipe({}, seed=0).training.epochs == 1
    assert cells[2].recipe({}, seed=0).data.max_train_examples == 100


def test_seeds_share_their_training_rows_or_draw_their_own(suite: Path) -> None:
    cells = expand_cells(*load_suite(suite))
    assert {cell.recipe({}, seed=seed).data.draw_seed for cell in cells for seed in (0, 1)} == {None}
    suite.write_text(suite.read_text() + "resample_train: true\n")
    cells = expand_cells(*load_suite(suite))
    for cell in cells:
        recipes = [cell.recipe({}, seed=seed) for seed in (0, 5)]
        assert [(each.data.draw_seed, each.data.split_seed) for each in recipes] == [(0, 7), (5, 7)]


def test_the_base_recipes_learning_rate_is_no_default_for_other_methods(suite: Path) -> None:
    full = expand_cells(*load_suite(suite))[0].recipe({}, seed=0)
    assert full.training.learning_rate == type(full.method).default_learning_rate


def test_methods_may_differ_by_their_regularizers(suite: Path) -> None:
    text = suite.read_text().replace("{training.epochs: 1}", "{training.regularizers: [{type: fgm}, {type: ema}]}")
    suite.write_text(text)
    cells = expand_cells(*load_suite(suite))
    types = [[each.registered_name for each in cell.recipe({}, seed=0).training.regularizers] for cell in cells]
    assert types == [["fgm", "ema"], [], ["fgm", "ema"], []]


def test_a_written_suite_is_the_same_suite(suite: Path, tmp_path: Path) -> None:
    loaded, _ = load_suite(suite)
    write_suite(loaded, tmp_path / "again.yaml")
    assert load_suite(tmp_path / "again.yaml")[0] == loaded


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("type: full", "type: fill", ["suite.yaml:5", "unknown method `fill`", "full"]),
        ("{type: full, set", "{name: a, set", ["suite.yaml:5", "`type` is required"]),
        ("name: small, type: lora, rank: 2", "type: full", ["two methods are both called `full`", "`name`"]),
        ("rank: 2", "rnak: 2", ["suite.yaml:6", "unknown key", "rank"]),
        ("rank: 2", "rank: two", ["suite.yaml:6", "method.rank"]),
        ("training.batch_size: 8", "training.batch_sise: 8", ["suite.yaml:3", "batch_size"]),
        ("training.batch_size: 8", "training.learning_rate: 1e-3", ["the suite tunes"]),
        (
            "training.batch_size: 8",
            "training.regularizers: [{type: fgn}]",
            ["suite.yaml:3", "unknown regularizer", "fgm"],
        ),
        ("training.batch_size: 8", "seed: 8", ["`seed` cannot be set here"]),
        ("data.max_train_examples: 20", "data.max_train_examples: -20", ["suite.yaml:9"]),
        ("seeds: [0, 1]", "seeds: [1, 1]", ["suite.yaml:11", "every seed counts once"]),
        ("seeds: [0, 1]", "seeds: []", ["suite.yaml:11"]),
        (
            "many: {data.max_train_examples: 100}",
            "all: {}\nresample_train: true",
            ["suite.yaml:11: resample_train", "no training rows of `full--all` are drawn", "max_train_examples"],
        ),
        (
            "training.batch_size: 8}",
            "data.draw_seed: 8}\nresample_train: true",
            ["suite.yaml:3: set.data.draw_seed", "`data.draw_seed` cannot be set here", "each run's seed"],
        ),
        (
            "training.batch_size: 8}",
            "data: {source: rows.csv, max_train_examples: 8, draw_seed: 8}}\nresample_train: true",
            ["suite.yaml:3: set.data.draw_seed", "`data.draw_seed` cannot be set here"],
        ),
        ("training.batch_size: 8", "training: {learning_rate: 1e-3}", ["suite.yaml:3: set.training.learning_rate"]),
        ("few: {data.max_train_examples: 20}", "few: {method: {rank: 20}}", ["suite.yaml:9: axes.data.few.method"]),
        ("[1e-4, 1e-1]", "[1e-1, 1e-4]", ["suite.yaml:12", "the smallest rate comes first"]),
        ("trials: 4", "trials: 0", ["suite.yaml:12", "trials"]),
        ("recipe: recipe.yaml", "recipe: nothing.yaml", ["nothing.yaml", "no such file"]),
        ("name: small", "name: a--b", ["cannot name a folder"]),
        ("name: small", "name: ../up", ["cannot name a folder"]),
        ("tuning:", "tunning:", ["suite.yaml:12", "unknown key", "tuning"]),
        (
            "{training.epochs: 1}",
            "3",
            ["suite.yaml:5", "methods.0.set", "a mapping of keys to values is needed, not 3"],
        ),
        ("set: {training.epochs: 1}", "set: null", ["suite.yaml:5", "methods.0.set", "not None"]),
        ("name: small", "name: null", ["suite.yaml:6", "methods.1.name", "a name is needed"]),
        ("name: small", "name: [a]", ["suite.yaml:6", "methods.1.name", "a name is needed"]),
        ("name: small", f"name: {'n' * 250}", ["suite.yaml:6", "too long for a folder", "at most 200"]),
        ("few: {data.max_train_examples: 20}", "few: {method.rank: 20}", ["`method.rank` cannot be set here"]),
        ("few: {data.max_train_examples: 20}", "few: {seed: 20}", ["`seed` cannot be set here"]),
        ("few: {data.max_train_examples: 20}", "few: {training.learning_rate: 1e-3}", ["the suite tunes"]),
        ("training.batch_size: 8", "trainig.batch_size: 8", ["suite.yaml:3", "unknown key", "training"]),
        ("seeds: [0, 1]", "seeds: [0, 4294967296]", ["suite.yaml:11", "seeds.1"]),
        ("trials: 4", "trials: 99999999999", ["suite.yaml:12", "trials"]),
        ("recipe: recipe.yaml", 'recipe: ""', ["suite.yaml:2: recipe", "empty"]),
        (
            "seeds: [0, 1]",
            "published: {full--fev: {score: 0.9, metric: accuracy, source: a}}\nseeds: [0, 1]",
            ["suite.yaml:11: published.full--fev", "no such cell", "full--few"],
        ),
    ],
)
def test_a_wrong_suite_is_told_where_and_what(suite: Path, old: str, new: str, words: list[str]) -> None:
    text = suite.read_text()
    assert old in text
    suite.write_text(text.replace(old, new, 1))
    with pytest.raises(ConfigError) as caught:
        expand_cells(*load_suite(suite))
    for word in words:
        assert word in str(caught.value)

"""Addresses that are replaced by --set: what goes with them, and where an error is placed."""

from pathlib import Path

import pytest

from peftlab.core.errors import UserError
from peftlab.data.data_config import DataConfig
from peftlab.preparation.check import check_recipe
from peftlab.recipe.schema import load_recipe

RECIPE = """\
name: a
model: {path: %s, revision: abc, trust_remote_code: true}
task: {type: text_classification, max_length: 32}
data:
  source: old.csv
  encoding: mac-roman
  delimiter: ";"
  quoting: false
  max_train_examples: 9
method: {type: lora}
"""


@pytest.fixture
def recipe(tmp_path: Path, tiny_bert: Path) -> Path:
    (tmp_path / "a.yaml").write_text(RECIPE % tiny_bert)
    return tmp_path / "a.yaml"


def test_what_was_said_of_the_old_source_goes_with_it_and_is_told(recipe: Path) -> None:
    loaded, document = load_recipe(recipe, ["data.source=new.csv"])
    fresh = DataConfig(source="new.csv", max_train_examples=9)
    assert loaded.data == fresh
    (note,) = document.notes
    assert note.startswith("data.source is another one now")
    assert 'data.encoding: "mac-roman", data.delimiter: ";", data.quoting: false' in note


def test_what_was_said_of_the_old_type_goes_with_it_and_is_told(recipe: Path) -> None:
    loaded, document = load_recipe(recipe, ["method.type=bitfit", "task.type=text_regression", "task.text=words"])
    assert (loaded.method.registered_name, loaded.task.registered_name) == ("bitfit", "text_regression")
    (note,) = document.notes  # of the method nothing was said
    assert note == "task.type is another one now, so what was said of the old one is left out: task.max_length: 32"
    _, same = load_recipe(recipe, ["task.type=text_classification", "method.type=lora"])
    assert same.notes == ()
    recipe.write_text(recipe.read_text().replace("{type: lora}", "{type: lora, rank: 4, target_parameters: null}"))
    _, document = load_recipe(recipe, ["method.type=bitfit"])
    assert document.notes[0].endswith("left out: method.rank: 4")


@pytest.mark.parametrize(
    "overrides",
    [["data.source=new.csv", "data.encoding=cp1252"], ["data.encoding=cp1252", "data.source=new.csv"]],
)
def test_what_is_said_of_the_new_source_stays(overrides: list[str], recipe: Path) -> None:
    loaded, _ = load_recipe(recipe, overrides)
    assert loaded.data == DataConfig(source="new.csv", encoding="cp1252", max_train_examples=9)


def test_the_same_source_keeps_all(recipe: Path) -> None:
    loaded, document = load_recipe(recipe, ["data.source=old.csv", "training.epochs=1"])
    assert loaded.data is not None
    assert loaded.data.encoding == "mac-roman"
    assert document.notes == ()


def test_splits_of_their_own_replace_a_source_too(recipe: Path) -> None:
    loaded, _ = load_recipe(recipe, ["data.source={train: a.csv, test: b.csv}"])
    assert loaded.data is not None
    assert loaded.data.encoding == "utf-8"


def test_trust_in_one_model_s_code_is_not_trust_in_another_s(recipe: Path) -> None:
    loaded, _ = load_recipe(recipe, ["model.path=other/model"])
    assert (loaded.model.revision, loaded.model.trust_remote_code) == (None, False)


@pytest.mark.parametrize(
    "override", ["data.source=gone.csv", "data={source: gone.csv}", "data.source={train: gone.csv}"]
)
def test_a_missing_file_given_by_set_is_blamed_on_set(override: str, recipe: Path, tiny_bert: Path) -> None:
    overrides = [override, f"model={{path: {tiny_bert}}}"]
    loaded, document = load_recipe(recipe, overrides)
    with pytest.raises(UserError, match=r"^--set: data\.source.*gone\.csv") as caught:
        check_recipe(loaded, document, offline=True)
    assert "a.yaml:" not in str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "place"),
    [
        (["trainig.epochs=1"], "--set: trainig: unknown key"),
        (["model.paht=x"], "--set: model.paht: unknown key"),
        (["training.epochs=1", "seed=-1"], "--set: seed: "),
        ([f"name={'n' * 300}"], "--set: name: the name is too long for a folder: 300 bytes"),
        (["name=a b"], "--set: name: 'a b' cannot name a folder; use letters"),
    ],
)
def test_what_set_makes_is_blamed_on_set(overrides: list[str], place: str, recipe: Path) -> None:
    with pytest.raises(UserError) as caught:
        load_recipe(recipe, overrides)
    assert str(caught.value).startswith(place)


def test_a_missing_file_of_the_recipe_s_own_is_blamed_on_its_line(recipe: Path, tiny_bert: Path) -> None:
    loaded, document = load_recipe(recipe, ["training.epochs=1", f"model={{path: {tiny_bert}}}"])
    with pytest.raises(UserError, match=r"a\.yaml:5: data\.source.*old\.csv"):
        check_recipe(loaded, document, offline=True)


def test_what_was_left_out_is_said(recipe: Path, tiny_bert: Path, reviews: Path) -> None:
    from peftlab.core.reporter import Silent

    said: list[str] = []
    reporter = Silent()
    reporter.say = said.append  # type: ignore[method-assign]
    loaded, document = load_recipe(recipe, [f"data.source={reviews}", f"model={{path: {tiny_bert}}}"])
    check_recipe(loaded, document, offline=True, reporter=reporter)
    assert any('data.encoding: "mac-roman"' in line for line in said)

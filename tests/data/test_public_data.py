"""Public data sets: recipes find them in a folder of the user's, and `peftlab data` puts them there."""

from __future__ import annotations

import csv
import dataclasses
import json
import re
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from peftlab.core.errors import DataError, SourceError
from peftlab.data.data_folders import VARIABLE, data_folders
from peftlab.data.locations import parse_location, resolve_location
from peftlab.data.public_data import PUBLIC_DATA, PublicData, fetch_public_data
from peftlab.recipe import shipped
from peftlab.recipe.shipped import missing_data, shipped_recipes
from tests.conftest import Command

ROOT = Path(__file__).resolve().parents[2]
MADE = re.compile(
    r"(?:\.\./)*(?:runs|waimai|digits|emoji|support_data|pairs)/|(?:\.\./)*digits$|e2e_questions|pairs\.jsonl"
)
"""Tables that a script makes, or a recipe before; and those that are the user's own by what the recipe says."""
OWN = {"conversations.jsonl", "texts.jsonl", "tweets.csv"}


def test_data_is_found_where_the_user_put_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe, here, named = tmp_path / "recipe", tmp_path / "here", tmp_path / "named"
    for folder in (recipe, here / "data", named):
        (folder / "sets").mkdir(parents=True)
    monkeypatch.chdir(here)
    monkeypatch.delenv(VARIABLE, raising=False)

    def found() -> Path:
        place = resolve_location(parse_location("sets/a.csv", folder=recipe, further=data_folders()))
        assert isinstance(place, Path)
        return place.resolve()

    with pytest.raises(SourceError, match="no such file") as missing:
        found()
    assert "not in the working directory either, nor in data" in str(missing.value.hint)
    (here / "data" / "sets" / "a.csv").touch()
    assert found() == here / "data" / "sets" / "a.csv"
    monkeypatch.setenv(VARIABLE, str(named))
    with pytest.raises(SourceError):  # the variable names the folder; no other is looked into
        found()
    for folder in (named, here, recipe):  # the nearest to the recipe last: each goes before the ones before
        (folder / "sets").mkdir(exist_ok=True)
        (folder / "sets" / "a.csv").touch()
        assert found() == folder / "sets" / "a.csv"


def test_a_shipped_recipe_reads_it(
    command: Command, tiny_bert: Path, reviews: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "nowhere"))
    check = (
        "validate",
        "banking77/minilm_linear_probe",
        "--set",
        f"model.path={tiny_bert}",
        "--set",
        "task.max_length=32",
    )
    done = command(*check)
    assert done.returncode == 2
    assert "peftlab data banking77" in done.stderr
    folder = tmp_path / "own" / "banking77"
    folder.mkdir(parents=True)
    rows = reviews.read_text().replace("text,label", "text,category").splitlines()
    (folder / "train.csv").write_text("\n".join(rows[:120]))
    (folder / "test.csv").write_text("\n".join([rows[0], *rows[120:]]))
    monkeypatch.setenv(VARIABLE, str(tmp_path / "own"))
    done = command(*check)
    assert done.returncode == 0, done.stderr


def copy_on_the_hub(data: PublicData, folder: Path, rows: int = 3) -> PublicData:
    """The same data set, its copy in a local folder with the columns and splits of that on the Hub."""
    assert data.copy is not None
    folder.mkdir()
    for split, _ in data.copy.splits.values():
        lines = [{name: f"{name} {at}, a\tb" for name in data.copy.columns.values()} for at in range(rows)]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return dataclasses.replace(data, copy=dataclasses.replace(data.copy, hub_id=str(folder), revision=None))


@pytest.fixture
def datasets_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.mark.usefixtures("datasets_cache")
@pytest.mark.parametrize("name", ["sst2", "banking77", "e2e_nlg"])
def test_a_copy_is_written_as_recipes_read_it(name: str, tmp_path: Path) -> None:
    data, said = copy_on_the_hub(PUBLIC_DATA[name], tmp_path / "hub"), list[str]()
    assert data.copy is not None
    kept = tmp_path / "data" / name / data.files[0]
    kept.parent.mkdir(parents=True)
    kept.write_text("mine")
    written = fetch_public_data(data, tmp_path / "data", offline=True, report=said.append)
    assert [path.name for path in written] == list(data.files[1:])
    assert kept.read_text() == "mine"
    assert any("3 rows; it had" in line for line in said)
    lines = written[0].read_text().splitlines()
    ours, theirs = list(data.copy.columns), list(data.copy.columns.values())
    if name == "sst2":
        assert lines[:2] == ["\t".join(ours), "\t".join(f"{column} 0, a b" for column in theirs)]
    elif name == "e2e_nlg":
        assert lines[0] == "||".join(f"{column} 0, a b" for column in theirs)
    else:
        assert next(csv.DictReader(lines)) == {
            own: f"{column} 0, a\tb" for own, column in zip(ours, theirs, strict=True)
        }
    assert fetch_public_data(data, tmp_path / "data", offline=True) == []


@pytest.mark.usefixtures("datasets_cache")
def test_a_copy_that_has_changed_is_told(tmp_path: Path) -> None:
    data = copy_on_the_hub(PUBLIC_DATA["sst2"], tmp_path / "hub")
    assert data.copy is not None
    other = dataclasses.replace(data, copy=dataclasses.replace(data.copy, columns={"sentence": "phrase"}))
    with pytest.raises(DataError, match="no columns phrase any more") as refused:
        fetch_public_data(other, tmp_path / "data", offline=True)
    assert data.home in str(refused.value)
    assert not (tmp_path / "data").exists()


@pytest.fixture
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that the variable names, from before the first command."""
    monkeypatch.setenv(VARIABLE, str(tmp_path / "sets"))
    return tmp_path / "sets"


def test_the_verb(own_folder: Path, command: Command) -> None:
    listed = json.loads(command("data", "--json").stdout)["data"]
    assert [each["name"] for each in listed] == list(PUBLIC_DATA)
    assert all(each["folder"] is None and each["licence"] and each["home"] for each in listed)
    assert all((each["hub_id"] is None) == bool(each["by_hand"]) for each in listed)
    for file in ("movies.csv", "ratings.csv"):
        path = own_folder / "movielens_small" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    told = command("data").stdout
    assert f"here: {own_folder / 'movielens_small'}" in told
    assert "not here: peftlab data sst2" in told
    assert f"by hand: waimai_10k.csv in {own_folder / 'waimai'}." in told
    there = command("data", "movielens_small")
    assert there.returncode == 0, there.stderr
    assert f"all files are in {own_folder / 'movielens_small'} already" in there.stderr
    refused = command("data", "waimai")
    assert refused.returncode == 2
    assert f"waimai_10k.csv in {own_folder / 'waimai'}" in refused.stderr
    assert "Licence: none stated" in refused.stderr
    assert "Did you mean `trec`?" in command("data", "trek").stderr
    refused = command("data", "sst2", "--offline")
    assert refused.returncode == 2
    assert f"put train.tsv and dev.tsv and test.tsv into {own_folder / 'sst2'} by hand, from https" in refused.stderr


def test_what_lies_in_another_folder_is_not_fetched(
    own_folder: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, other = own_folder / "waimai", own_folder / "other"
    here.mkdir(parents=True)
    (here / "waimai_10k.csv").touch()
    for module in ("peftlab.data.data_folders", "peftlab.data.public_data"):
        monkeypatch.setattr(f"{module}.data_folders", lambda: (other, own_folder))
    assert f"all files are in {here} already" in command("data", "waimai").stderr
    refused = command("data", "waimai", "--output", other)
    assert refused.returncode == 2
    assert f"waimai_10k.csv in {other / 'waimai'}" in refused.stderr


def test_the_page_and_the_recipes_know_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    page = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
    for data in PUBLIC_DATA.values():
        (row,) = [line for line in page.splitlines() if line.startswith(f"| `{data.name}` |")]
        assert f"| {data.licence} |" in row, data.name
        assert f"<{data.home}>" in row, data.name
        assert ("by hand" in row) == (data.copy is None), data.name
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for name, recipe in shipped_recipes().items():
        for address in missing_data(recipe):
            if MADE.match(address) or address in OWN:
                continue
            folder, _, file = address.partition("/")
            assert file in PUBLIC_DATA[folder].files, (name, address)
            assert any("docs/data.md" in line for line in shipped.comments_of(recipe)), name


def test_no_recipe_names_a_folder_of_the_developers() -> None:
    for recipe in shipped_recipes().values():
        for address in shipped._sources(YAML(typ="safe").load(recipe)):
            assert "shared/" not in address, recipe

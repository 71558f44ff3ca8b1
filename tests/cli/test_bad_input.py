"""What is wrong, where, and how to mend it: on one screen, with exit code 2, no traceback, and nothing half-written."""

from __future__ import annotations

import copy
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from peftlab.core.config import parse_yaml

pytestmark = pytest.mark.slow

SCREEN = 24


def refused(done, *expected: str) -> str:
    """The message of a run that never began."""
    assert done.returncode == 2, done.stderr + done.stdout
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") <= SCREEN
    for text in expected:
        assert text in done.stderr, done.stderr
    return done.stderr


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("rank: 4", "rnak: 4"), ["recipe.yaml:7: method.rnak: unknown key", "Did you mean `rank`?"]),
        (("rank: 4", "rank: four"), ["recipe.yaml:7: method.rank", "valid integer", "'four'"]),
        (("rank: 4", "rank: 0"), ["recipe.yaml:7: method.rank", "greater than 0"]),
        (("type: lora", "type: lorra"), ["recipe.yaml:7: method.type", "unknown method `lorra`", "Did you mean `lora`?"]),
        (("text_classification", "text_clasification"), ["recipe.yaml:3: task.type", "Did you mean `text_classification`"]),
        (("validation_fraction: 0.2", "validation_fraction: 1.5"), ["recipe.yaml:6: data.validation_fraction"]),
        (("epochs: 3", "epochs: -1"), ["recipe.yaml:9: training.epochs"]),
        (("method:", "methods:"), ["recipe.yaml:7: methods: unknown key", "Did you mean `method`?"]),
        (("training:", "training: ["), ["not YAML"]),
        (("name: tiny", "name: ../escape"), ["recipe.yaml:1: name"]),
        (("reviews.csv", "reviws.csv"), ["recipe.yaml:5: data.source", "Did you mean `reviews.csv`?"]),
        (("tiny-bert", "tinny-bert"), ["recipe.yaml:2: model.path", "Did you mean `tiny-bert`?"]),
        (("max_length: 32", "max_length: 100"), ["recipe.yaml:3: task.max_length", "positions for 64 tokens", "64 or less"]),
        (("max_length: 32", "max_length: 32, text: txt"), ["txt", "Did you mean `text`?"]),
        (("max_length: 32", "max_length: 32, label: lable"), ["lable", "Did you mean `label`?"]),
        (("{path:", "{path: 'pypi:x==1/../../etc', revision:"), ["recipe.yaml:2: model.path"]),
        (("{path:", "{path: 'pypi:x/y', revision:"), ["recipe.yaml:2: model.path", "pypi:DIST==VERSION/PATH"]),
        (("training:", "tracking: [wandb]\ntraining:"), ["tracking", "pip install 'peftlab[wandb]'"]),
        (("training:", "evaluation: {metric: acuracy}\ntraining:"), ["evaluation.metric", "Did you mean `accuracy`"]),
    ],
    ids=lambda value: value[1][:24] if isinstance(value, tuple) else "",
)  # fmt: skip
def test_a_wrong_recipe(change: tuple[str, str], expected: list[str], command, recipe: Path, tmp_path: Path) -> None:
    text = recipe.read_text()
    assert change[0] in text
    recipe.write_text(text.replace(*change))
    for verb in ("validate", "run"):
        refused(command(verb, recipe), *expected)
    assert not (tmp_path / "runs").exists()


ROWS = "text,label\n" + "".join(f"text number {n} is here,{'ab'[n % 2]}\n" for n in range(40))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", ["empty"]),
        (b"text,label\n", ["no row"]),
        (ROWS.replace(",b\n", ",a\n").encode(), ["two classes are needed"]),
        (ROWS.replace("text number 7", "t\u00e9xt number 7").encode("latin-1"), ["offset", "data.encoding"]),
        (b"text,label\n1,a\n2,b\n3,a\n4,b\n", ["number"]),
        (ROWS.replace("text number 7 is here", "").encode(), ["row 8", "drop_missing"]),
        (ROWS.replace("text number 7 is here", "one,two").encode(), ["line 9"]),
        (b"\x00\x01\x02\x03,\xff\xfe", []),
    ],
    ids=["empty", "header only", "one class", "encoding", "numbers", "missing", "fields", "binary"],
)
def test_a_wrong_table(content: bytes, expected: list[str], command, recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_bytes(content)
    done = command("run", recipe, "--set", "data={source: rows.csv}")
    refused(done, *expected)
    assert "rows.csv" in done.stderr
    assert not (tmp_path / "runs").exists()


def test_a_label_unseen_in_training(command, recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text(ROWS)
    (tmp_path / "test.csv").write_text("text,label\nsomething else,c\n")
    done = command("run", recipe, "--set", "data={source: {train: train.csv, test: test.csv}}")
    refused(done, "test.csv, row 1", "'c'", "training split")


def test_what_only_the_loaded_model_tells_leaves_no_folder(command, recipe: Path, tmp_path: Path) -> None:
    done = command(
        "run", recipe, "--output-dir", "out", "--set", "method.type=adalora", "--set", "training.max_steps=1"
    )
    refused(done, "1 steps leave no time", "method")
    assert not (tmp_path / "out").exists()


def test_files_that_are_no_recipe(command, tmp_path: Path) -> None:
    refused(command("run", "nothing.yaml"), "nothing.yaml: no such file")
    refused(command("run", tmp_path), "folder")
    (tmp_path / "list.yaml").write_text("- 1\n")
    refused(command("run", "list.yaml"), "list.yaml", "mapping")
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
    refused(command("run", "bytes.yaml"), "UTF-8")
    refused(command("run"), "a recipe is needed", "peftlab init")
    refused(command("runn", "x"), "runn")


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"config.json": '{"model_type": "bert"}', "pytorch_model.bin": "x"}, "never loads pickle"),
        ({"config.json": "{"}, "damaged"),
        ({"readme.txt": "x"}, "no config.json"),
        ({"config.json": '{"model_type": "bert"}', "model.safetensors": "short"}, "not a safetensors file"),
        ({"config.json": '{"model_type": "bert", "quantization_config": {"quant_method": "gptq"}}'}, "safetensors"),
        ({"config.json": '{"hidden_size": 3}', "model.safetensors": "EMPTY"}, "model_type"),
    ],
    ids=["pickle", "broken json", "no config", "no weights", "nothing", "no type"],
)
def test_folders_that_are_no_model(files: dict[str, str], expected: str, command, recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    for name, content in files.items():
        empty = (2).to_bytes(8, "little") + b"{}"
        (tmp_path / "model" / name).write_bytes(empty if content == "EMPTY" else content.encode())
    refused(command("run", recipe, "--set", "model.path=./model"), "model.path", expected)


def test_an_output_folder_in_use(command, recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    refused(command("run", recipe, "--output-dir", "mine"), "mine", "never overwrites")
    refused(command("run", recipe, "--output-dir", "mine", "--resume"), "no run in this folder")
    refused(command("run", recipe, "--output-dir", "mine/thesis.tex"), "is a file")
    another = tmp_path / "runs" / f"{recipe.stem}-2-20260101T000000Z"  # as `peftlab continue` calls what goes on
    another.mkdir(parents=True)
    (another / "recipe.yaml").write_text(recipe.read_text())
    refused(command("run", recipe, "--resume"), "no unfinished run")
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "years of work"
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.tex"]


def test_what_is_meant_by_a_folder_and_by_a_table(command, recipe: Path, tmp_path: Path) -> None:
    """A newcomer gives a verb what is at hand."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "recipe.yaml").write_text(recipe.read_text())
    (tmp_path / "rows.csv").write_text("text,label\na fine day,good\n")
    for verb in ("run", "validate"):
        refused(command(verb, "run"), "run: this is a folder", "Did you mean `run/recipe.yaml`?")
        refused(command(verb, "rows.csv"), "the file holds text", "`peftlab init rows.csv` writes a recipe")
    assert "init" not in refused(command("bench", "rows.csv"), "the file holds text")
    (tmp_path / "my suite.yaml").write_text(
        "name: s\nrecipe: r.yaml\nmethods: [{type: lora}]\nseeds: [0]\ntuning: null\n"
    )
    refused(command("run", "my suite.yaml"), "Use `peftlab bench 'my suite.yaml'`.")
    refused(command("predict", "my suite.yaml", "a text"), "the folder of a run is needed")
    refused(command("reproduce", recipe), "the folder of a run is needed", "`peftlab run")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--set", "method.rnak=1"], "method.rnak"),
        (["--epochs", "3"], "No such option: --epochs"),
        (["--threads", "-1"], "'--threads'"),
    ],
)
def test_json_holds_the_error_too(words: list[str], said: str, command, recipe: Path) -> None:
    done = command("run", recipe, "--json", *words)
    assert done.returncode == 2
    error = json.loads(done.stdout)["error"]
    assert said in error["message"]
    assert error["exit_code"] == 2
    assert command("run", recipe, *words).stdout == ""


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("mount") is None, reason="needs to mount a small file system")
def test_a_full_disk(command, recipe: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.system(f"mount -t tmpfs -o size=64k tmpfs {disk}") != 0:  # noqa: S605
        pytest.skip("mounting is not allowed here")
    try:
        done = command("run", recipe, "--output-dir", disk / "run", "--set", "method.type=full")
        assert done.returncode == 1
        assert "Traceback" not in done.stderr
        assert "space" in (done.stderr + done.stdout).lower()
        assert not list(disk.rglob("*.partial"))
    finally:
        os.system(f"umount {disk}")  # noqa: S605


MUTATIONS = st.sampled_from(["delete", "rename", "retype", "extreme", "nest"])
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 10**12),
    st.floats(allow_nan=True),
    st.text(max_size=12),
    st.lists(st.integers(), max_size=2),
)


def paths(values: Any, prefix: tuple = ()) -> list[tuple]:
    found = []
    for key, value in values.items():
        found.append((*prefix, key))
        if isinstance(value, dict):
            found += paths(value, (*prefix, key))
    return found


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_mutated_recipes_are_read_or_refused_in_words(data, command, recipe: Path, tmp_path: Path) -> None:
    values = copy.deepcopy(parse_yaml(recipe.read_text(), source="x").values)
    for _ in range(data.draw(st.integers(1, 2))):
        places = paths(values)
        if not places:
            break
        path = data.draw(st.sampled_from(places))
        parent = values
        for key in path[:-1]:
            parent = parent[key]
        kind = data.draw(MUTATIONS)
        if kind == "delete":
            del parent[path[-1]]
        elif kind == "rename":
            parent[data.draw(st.text("abcdefgh_", min_size=1, max_size=6))] = parent.pop(path[-1])
        elif kind == "nest":
            parent[path[-1]] = {"inner": parent[path[-1]]}
        else:
            parent[path[-1]] = data.draw(VALUES)
    mutated = tmp_path / "mutated.yaml"
    with mutated.open("w", encoding="utf-8") as file:
        YAML(typ="safe", pure=True).dump(values, file)
    before = sorted(tmp_path.iterdir())
    done = command("validate", mutated, "--offline")
    assert done.returncode in (0, 2), done.stderr
    assert "Traceback" not in done.stderr
    assert "defect" not in done.stderr
    if done.returncode == 2:
        assert "mutated.yaml" in done.stderr
        assert done.stderr.count("\n") <= SCREEN
    assert sorted(tmp_path.iterdir()) == before

"""`ls`, `validate`, `schema` and `--help` answer without torch, and so do verbs whose input is wrong."""

from __future__ import annotations

import contextlib
import io
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
from typer.testing import CliRunner

from peftlab.cli.ls import Kind
from peftlab.cli.output import show_error
from peftlab.cli.serve import _named
from peftlab.core.method import METHODS
from peftlab.core.task import TASKS
from peftlab.training.launch import PEFTLAB

REPOSITORY = Path(__file__).resolve().parents[2]
PROBE = """
import contextlib, io, json, sys
from peftlab.cli.app import main

outcomes = []
for arguments in json.load(sys.stdin):
    sys.argv, code = ["peftlab", *arguments], 0
    with contextlib.redirect_stdout(io.StringIO()) as out:
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
    heavy = {"torch", "peft", "transformers", "accelerate", "sklearn", "datasets"} & set(sys.modules)
    outcomes.append([code, out.getvalue(), sorted(heavy)])
print(json.dumps(outcomes))
"""
LIGHT = [
    "--help",
    "run --help",
    "--version",
    *(f"ls {kind} --json" for kind in get_args(Kind)),
    "ls methods",
    "schema recipe",
    "schema suite",
    "schema application",
    "validate {recipe}",
    "validate {recipe} --json",
]
WRONG = [
    "run {broken}",
    "run nowhere.yaml",
    "estimate {broken}",
    "bench nowhere.yaml",
    "app build {broken}",
    "serve nowhere",
]
"""Each is told what is wrong in its words or files at once; to load torch takes seconds."""


def test_no_heavy_import(recipe: Path, tmp_path: Path) -> None:
    """One fresh process for all: a module that one verb has imported would be seen after every later one."""
    broken = tmp_path / "broken.yaml"
    broken.write_text(recipe.read_text().replace("rank: 4", "rnak: 4"))
    commands = [[word.format(recipe=recipe, broken=broken) for word in line.split()] for line in [*WRONG, *LIGHT]]
    done = subprocess.run(
        [sys.executable, "-c", PROBE], input=json.dumps(commands), capture_output=True, text=True, cwd=REPOSITORY
    )
    assert done.returncode == 0, done.stderr
    outcomes = json.loads(done.stdout)
    for line, (code, output, heavy) in zip(WRONG, outcomes, strict=False):
        assert (code, output, heavy) == (2, "", []), line
    for line, (code, output, heavy) in zip(LIGHT, outcomes[len(WRONG) :], strict=True):
        assert (code, heavy) == (0, []), (line, done.stderr)
        assert output.strip(), line


def test_ls_tells_what_there_is(command) -> None:
    methods = json.loads(command("ls", "methods", "--json").stdout)["methods"]
    assert [entry["name"] for entry in methods] == METHODS.names()
    assert all(entry["description"] and entry["paper"].startswith("https://") for entry in methods)
    tasks = json.loads(command("ls", "tasks", "--json").stdout)["tasks"]
    assert [entry["name"] for entry in tasks] == TASKS.names()
    metrics = {entry["name"] for entry in json.loads(command("ls", "metrics", "--json").stdout)["metrics"]}
    with_the_base = {"kl", "base_response_tokens"}  # only where a recipe compares with the base
    assert metrics == {name for _, task in TASKS.items() for name in task.metrics} | with_the_base
    assert "linear_probe" in command("ls", "methods").stdout
    wrong = command("ls", "method")
    assert wrong.returncode == 2


def test_ls_models_says_that_others_can_be_named(command) -> None:
    assert "Not only these" in command("ls", "models").stderr
    assert command("ls", "models", "--json").stderr == ""


def test_help_shows_no_type_beside_a_flag(command) -> None:
    """`--yes <bool>` looks as if a value had to follow."""
    for verb in ([], ["init"], ["app"], ["app", "build"]):
        shown = command(*verb, "--help").stdout
        assert "--help" in shown
        assert "bool" not in shown


def test_help_groups_all_verbs(command) -> None:
    told = command("--help").stdout
    assert re.findall(r"╭─ ([\w ]+) ─", told) == ["Options", "Begin", "Use a run", "Go on from runs", "Compare", "Ship"]


def test_recipes_are_listed_with_what_they_do(command, tmp_path: Path) -> None:
    shipped = command("ls", "recipes", "--json")
    assert shipped.returncode == 0
    names = {entry["name"] for entry in json.loads(shipped.stdout)["recipes"]}
    assert {"quickstart", "tweet_sentiment/minilm_lora"} <= names
    assert "quickstart" not in {entry["name"] for entry in json.loads(shipped.stdout)["recipes"] if entry["needs_data"]}
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "a.yaml").write_text("# yaml-language-server: $schema=x\n# What it does\nname: a\n")
    (tmp_path / "recipes" / "b.yaml").write_text("# Own rows\n# First: make them\ndata: {source: {train: b.csv}}\n")
    (tmp_path / "recipes" / "c.yaml").write_text("# Broken\ndata: {source: [\n")
    # A description that goes on in the next line of the file would end in the middle of a sentence here.
    cut = re.compile(r"(?:[:,;]|\b(?:by|of|the|a|and|or|with|from|in|to))$")
    told = [entry["description"].partition(" (needs data")[0] for entry in json.loads(shipped.stdout)["recipes"]]
    assert [description for description in told if cut.search(description)] == []
    first, second, third, *_ = command("ls", "recipes").stdout.splitlines()
    assert first.split(maxsplit=1) == ["recipes/a.yaml", "What it does"]
    assert second.split(maxsplit=1) == ["recipes/b.yaml", "Own rows (needs data: see the file)"]
    assert third.split(maxsplit=1) == ["recipes/c.yaml", "Broken"]


def test_validate_tells_each_recipe_apart(command, recipe: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text(recipe.read_text().replace("rank: 4", "rnak: 4"))
    done = command("validate", recipe, broken)
    assert done.returncode == 2
    assert "valid. lora on bert (encoder), text_classification; rows: 154 train, 38 validation, 48 test" in done.stdout
    assert f"{broken}:7: method.rnak: unknown key" in done.stderr
    assert "Did you mean `rank`?" in done.stderr
    results = json.loads(command("validate", recipe, broken, "--json").stdout)["recipes"]
    assert [result["valid"] for result in results.values()] == [True, False]


@pytest.mark.parametrize(
    ("option", "reason"),
    [
        ("method={type: lora, target_modules: [q_proj]}", "matches no linear layer"),
        (
            "method={type: prefix_tuning, num_virtual_tokens: 64}",
            "64 virtual tokens and texts of up to 32 tokens do not fit",
        ),
        ("task.max_length=65", "positions for 64 tokens"),
    ],
)
def test_what_a_model_cannot_take_is_refused_before_it_is_loaded(
    command, recipe: Path, option: str, reason: str
) -> None:
    done = command("validate", recipe, "--set", option)
    assert done.returncode == 2
    assert reason in done.stderr
    assert "--set" in done.stderr or "recipe.yaml:3: task.max_length" in done.stderr


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_ctrl_c_is_told_and_ends_with_1(options: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from peftlab.cli import validate
    from peftlab.cli.app import app

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(validate, "_is_suite", stop)
    done = CliRunner().invoke(app, ["validate", str(tmp_path), *options])
    assert (done.exit_code, done.stderr) == (1, "Stopped.\n")
    assert [json.loads(line)["error"]["exit_code"] for line in done.stdout.splitlines()] == [1] * len(options)


def test_files_of_the_working_directory_are_none_of_a_run_s_modules(tmp_path: Path) -> None:
    for name in ("typer", "random", "datasets"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('the wrong one')")
    done = subprocess.run([*PEFTLAB, "ls", "methods"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_working_directory_that_is_gone() -> None:
    error = FileNotFoundError(2, "No such file or directory")  # as os.getcwd() raises it
    shown = io.StringIO()
    with contextlib.redirect_stderr(shown):
        assert show_error(error) == 1
    assert shown.getvalue().startswith("Error: the working directory is not there any more\n  Change to")


def test_a_served_folder_may_have_an_equals_sign_in_its_name(tmp_path: Path) -> None:
    folder = tmp_path / "rank=4" / "rate=0.1"
    folder.mkdir(parents=True)
    assert _named([str(folder), f"a={folder}"]) == {"rate=0.1": folder, "a": folder}

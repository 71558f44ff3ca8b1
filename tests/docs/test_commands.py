"""Every `peftlab` command in the documentation is one: its verb and its options exist; every YAML block is YAML."""

import ast
import re
import tomllib

import click
import pytest
import typer
from ruamel.yaml import YAML

from peftlab.cli.app import app
from peftlab.recipe.shipped import find_recipe
from tests.docs.pages import BLOCK, PAGES, ROOT, SHELLS, blocks, commands

VERBS = "|".join(typer.main.get_command(app).list_commands(None))
A_COMMAND = re.compile(rf"^(?:\$ |    )?peftlab (?:{VERBS}) .*", re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_exist(page):
    group = typer.main.get_command(app)
    for words in commands(page):
        if words[0] == "--version":
            continue
        with click.Context(group) as context:
            verb = group.get_command(context, words[0])
            assert verb is not None, words
            verb.make_context(words[0], [word for word in words[1:] if word != "…"], parent=context)


def test_named_recipes_come_along():
    for page in PAGES:
        for name in re.findall(r"(?<![/\w])recipes/[\w/]+\.yaml", page.read_text(encoding="utf-8")):
            assert find_recipe(name).is_file(), f"{page.name} names {name}"


def test_blocks_are_what_they_say():
    for page in PAGES:
        for block in blocks(page, "yaml"):
            YAML(typ="safe").load(block)
        for block in blocks(page, "python"):
            ast.parse(block)


def test_every_command_is_in_a_block_that_is_read():
    """One in a block without a language, or in an indented one, would never be looked at."""
    for page in PAGES:
        unread = BLOCK.sub(lambda found: "" if found[1] in SHELLS else found[2], page.read_text(encoding="utf-8"))
        assert A_COMMAND.findall(unread) == [], page.name


def test_a_command_behind_a_prompt_is_read(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("```console\n$ peftlab audit RUN  # all of it\n```\n")
    assert list(commands(page)) == [["audit", "RUN"]]


def test_extras_exist_and_all_has_them():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    named = {
        name
        for page in PAGES
        for names in re.findall(r"peftlab\[([\w,]+)\]", page.read_text())
        for name in names.split(",")
    }
    assert named <= extras.keys()
    (together,) = extras["all"]
    packages = {
        name: {re.split(r"[\[<>=~]", package)[0] for package in needed if not package.startswith("peftlab[")}
        for name, needed in extras.items()
    }
    had = set().union(*(packages[name] for name in re.findall(r"\w+", together.removeprefix("peftlab"))))
    for name in extras.keys() - {"all", "dev", "docs", "liger"}:  # liger's kernels need a GPU
        assert packages[name] <= had, name

"""Every `peftlab` command in the documentation is one: its verb and its options exist; every YAML block is YAML."""

import ast
import re
import shlex
from pathlib import Path

import click
import pytest
import typer
from ruamel.yaml import YAML

from peftlab.cli.app import app
from peftlab.recipe.shipped import find_recipe

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page, *languages):
    return [found[2] for found in BLOCK.finditer(page.read_text(encoding="utf-8")) if found[1] in languages]


def commands(page):
    for block in blocks(page, "sh", "bash", "console"):
        for line in block.replace("\\\n", " ").splitlines():
            for part in re.split(r"&&|\|(?!\|)|;", line):
                words = shlex.split(part, comments=True) if part.count("'") % 2 == 0 else []
                if words[:1] == ["peftlab"] and len(words) > 1:
                    yield words[1:]


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

"""Under `--json`, standard output holds one object, whatever libraries and plugins print."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import typer

import peftlab.cli
from peftlab.cli.json_object import print_result, print_with_items
from peftlab.cli.verbs import verb


def printing(as_json: bool = False) -> None:
    print("a plugin's own words")
    print_result(json.dumps({"done": True}))


def listing(as_json: bool = False) -> None:
    print_with_items({"of": 2}, "items", iter([1, 2]))
    print("a plugin's own words")


def failing(as_json: bool = False) -> None:
    print("a plugin's own words")
    raise OSError("no")


@pytest.mark.parametrize(
    ("function", "told"),
    [(printing, {"done": True}), (listing, {"of": 2, "items": [1, 2]}), (failing, None)],
)
def test_what_others_print_is_no_part_of_the_object(
    function: object, told: object, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        verb(quiet=False)(function)(as_json=True)  # type: ignore[arg-type]
    except typer.Exit as leaving:
        assert leaving.exit_code == 1
    output = capsys.readouterr()
    found = json.loads(output.out)
    assert found == told if told is not None else found["error"]["exit_code"] == 1
    assert "a plugin's own words" in output.err


def test_without_the_option_nothing_is_moved(capsys: pytest.CaptureFixture[str]) -> None:
    verb(quiet=False)(printing)()
    assert capsys.readouterr().out == 'a plugin\'s own words\n{"done": true}\n'


def test_every_verb_prints_its_object_so() -> None:
    """All but `ls` and `schema`, which run nothing of others but their imports, whose words a registry keeps back."""
    wrong = [
        path.name
        for path in Path(peftlab.cli.__file__).parent.glob("*.py")
        if re.search(r"(?<!_)print\(.*json", path.read_text()) and "@verb" in path.read_text()
    ]
    assert wrong == []

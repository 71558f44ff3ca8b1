"""However a verb ends, its exit code and its message say so."""

from __future__ import annotations

import json
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from peftlab.cli.verbs import verb
from peftlab.core.errors import RunFailedError, UserError

ENDINGS: dict[str, BaseException | None] = {
    "done": None,
    "refused": UserError("there is no such file", where="a.csv", hint="Look again."),
    "failed": RunFailedError("a guard failed"),
    "defect": ZeroDivisionError("division by zero"),
    "judged": typer.Exit(1),
}


@verb()
def end(name: str, as_json: bool = typer.Option(False, "--json")) -> None:
    error = ENDINGS[name]
    if error is not None:
        raise error
    print(json.dumps({"name": name}))


def call(*arguments: str) -> Any:
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(end)
    return CliRunner().invoke(app, arguments)


@pytest.mark.parametrize(
    ("name", "code", "said"),
    [
        ("done", 0, ""),
        ("refused", 2, "Error: a.csv: there is no such file"),
        ("failed", 1, "Error: a guard failed"),
        ("defect", 1, "This is a defect of peftlab"),
        ("judged", 1, ""),
    ],
)
def test_the_end_of_a_verb(name: str, code: int, said: str) -> None:
    plain, as_object = call(name), call(name, "--json")
    assert plain.exit_code == as_object.exit_code == code
    assert said in plain.stderr
    assert ("Traceback" in plain.stderr) == (name == "defect")
    if said:
        error = json.loads(as_object.stdout)["error"]
        assert error["exit_code"] == code
        assert error["message"] in as_object.stderr
        assert plain.stdout == ""
    else:
        assert as_object.stdout == plain.stdout

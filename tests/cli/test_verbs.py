"""However a verb ends, its exit code and its message say so."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from peftlab.cli.json_object import print_result, print_with_items
from peftlab.cli.stopping import resumable
from peftlab.cli.verbs import verb
from peftlab.core.errors import RunFailedError, UserError

ENDINGS: dict[str, BaseException | None] = {
    "done": None,
    "refused": UserError("there is no such file", where="a.csv", hint="Look again."),
    "failed": RunFailedError("a guard failed"),
    "forbidden": PermissionError(errno.EACCES, "Permission denied", "a/.lock"),
    "not to be written": OSError(errno.EROFS, "Read-only file system", "a/b.csv"),
    "damaged": OSError(errno.EIO, "Input/output error", "a/b.csv"),
    "defect": ZeroDivisionError("division by zero"),
    "judged": typer.Exit(1),
}


@verb()
def end(name: str, as_json: bool = typer.Option(False, "--json")) -> None:
    error = ENDINGS[name]
    if error is not None:
        raise error
    print_result(json.dumps({"name": name}))


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
        ("forbidden", 2, "Error: no permission: a/.lock"),
        ("not to be written", 2, "Error: Read-only file system: a/b.csv"),
        ("damaged", 1, "Error: Input/output error: a/b.csv"),
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


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (None, 0, None),
        (UserError("the text is missing", where="a.csv, row 3"), 2, "a.csv, row 3: the text is missing"),
        (ZeroDivisionError("division by zero"), 1, "division by zero"),
        (KeyboardInterrupt(), 1, "stopped"),
    ],
    ids=["done", "refused", "defect", "stopped"],
)
def test_what_breaks_off_a_list_ends_its_object(error: BaseException | None, code: int, message: str | None) -> None:
    def items() -> Iterator[dict[str, str]]:
        yield from ({"text": "a 😀"}, {"text": "b"})
        if error is not None:
            raise error

    @verb()
    def listing(as_json: bool = typer.Option(False, "--json")) -> None:
        print_with_items({"run": "tiny"}, "predictions", items())

    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(listing)
    for _ in range(2):  # nothing of the first one is left
        done = CliRunner().invoke(app, ["--json"])
        printed = json.loads(done.stdout)
        assert done.exit_code == code
        assert (printed["run"], [item["text"] for item in printed["predictions"]]) == ("tiny", ["a 😀", "b"])
        if message is None:
            assert "error" not in printed
        else:
            assert message in printed["error"]["message"]
            assert printed["error"]["exit_code"] == code


def test_ctrl_c_says_how_to_go_on_and_under_json_is_an_object() -> None:
    @verb()
    def work(as_json: bool = typer.Option(False, "--json")) -> None:
        with resumable():
            raise KeyboardInterrupt

    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(work)
    plain, as_object = CliRunner().invoke(app, []), CliRunner().invoke(app, ["--json"])
    assert plain.exit_code == as_object.exit_code == 1
    assert plain.stderr == as_object.stderr == "Stopped. The same command goes on from here.\n"
    assert plain.stdout == ""
    assert "goes on from here" in json.loads(as_object.stdout)["error"]["message"]

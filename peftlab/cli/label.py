"""``peftlab label``: a local page on which rows get their labels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from peftlab.cli.options import Host, Port
from peftlab.cli.output import reporting
from peftlab.cli.verbs import verb
from peftlab.core.installed import PAGES, check_installed

if TYPE_CHECKING:
    from peftlab.board.label_table import Question


@verb()
def label(
    table: Annotated[
        Path,
        typer.Argument(metavar="TABLE", help="Rows to label, as `peftlab select` writes them.", show_default=False),
    ],
    run: Annotated[
        Path | None, typer.Option(metavar="RUN", help="The run that selected them: its columns and classes.")
    ] = None,
    classes: Annotated[
        list[str] | None, typer.Option("--class", metavar="NAME", help="Without --run: a class. May be repeated.")
    ] = None,
    text: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN", help="Without --run: a column of the text. Default: text. Twice for pairs."),
    ] = None,
    column: Annotated[str, typer.Option(metavar="COLUMN", help="Without --run: the column of the label.")] = "label",
    several: Annotated[
        bool, typer.Option("--several", help="Without --run: a text has any number of classes.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The labelled rows: .csv, .jsonl or .parquet. What stands there already is taken up. Default: "
            "TABLE with -labelled before its ending.",
            show_default=False,
        ),
    ] = None,
    host: Host = "127.0.0.1",
    port: Port = 8081,
) -> None:
    """Give rows their labels in a browser, by keys; each answer is saved at once."""
    check_installed(PAGES, "the page for labelling needs", extra="serve")
    with reporting() as reporter:
        from peftlab.board.label_table import LabelTable
        from peftlab.board.server import show_labelling
        from peftlab.core.address import given_token

        if output is None:
            ending = table.suffix if table.suffix.lower() in (".csv", ".jsonl", ".parquet") else ".csv"
            output = table.with_name(f"{table.stem}-labelled{ending}")
        rows = LabelTable(table, output, _question(run, classes or [], text or [], column, several=several))
        try:
            show_labelling(rows, address=host, port=port, token=given_token(), reporter=reporter)
        finally:
            reporter.say(f"{rows.done} of {len(rows)} rows have a label: {output}")


def _question(run: Path | None, classes: list[str], text: list[str], column: str, *, several: bool) -> Question:
    from peftlab.board.label_table import Question
    from peftlab.core.errors import UserError

    if run is not None:
        if classes or text or several:
            raise UserError("the run says which columns and classes there are", where="--run", hint="Leave it out.")
        return Question.of_run(run)
    names = tuple(dict.fromkeys(name.strip() for name in classes if name.strip()))
    if len(names) < (1 if several else 2):
        raise UserError(
            f"`{names[0]}` alone leaves nothing to choose" if names else "it is not known which classes there are",
            where="--class",
            hint="Give --run RUN, or each class by --class NAME.",
        )
    if several and any("," in name for name in names):
        raise UserError("a class has a comma, which stands between several classes", where="--class")
    return Question(tuple(text) or ("text",), (column,), names, several)

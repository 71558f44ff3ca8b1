"""``peftlab report``: compare records."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from peftlab.cli.json_object import print_result
from peftlab.cli.options import Force, Json
from peftlab.cli.verbs import verb

if TYPE_CHECKING:
    from peftlab.report.choice import Limits
    from peftlab.report.document import Report

DEFAULT_OUTPUT = Path("report.html")
Format = Literal["html", "markdown", "csv"]
RECORDS = (".json", ".jsonl", ".parquet", ".yaml")
"""Endings of what a report reads."""
ENDINGS: dict[str, Format] = {
    "": "html", ".html": "html", ".htm": "html", ".md": "markdown", ".markdown": "markdown", ".csv": "csv",
}  # fmt: skip


@verb(quiet=False)
def report(
    directories: Annotated[
        list[Path],
        typer.Argument(
            metavar="DIR…", help="Folders of runs or suites, or huggingface/peft's result files.", show_default=False
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(help="The file to write. Default: report.html, or standard output.", show_default=False),
    ] = None,
    form: Annotated[
        Format | None,
        typer.Option("--format", help="Default: by the ending of the output, else html.", show_default=False),
    ] = None,
    force: Force = False,
    as_json: Json = False,
    max_memory: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Which method trains within this memory? Such as 400MB.")
    ] = None,
    max_seconds: Annotated[
        float | None, typer.Option(metavar="S", min=0, help="Which method trains within this time?")
    ] = None,
    max_loss: Annotated[
        float | None,
        typer.Option(metavar="POINTS", min=0, help="Which method is at most this far behind the best?"),
    ] = None,
    metric: Annotated[
        str | None, typer.Option(metavar="NAME", help="The metric to rank by. Default: the runs' own.")
    ] = None,
) -> None:
    """Compare records: which methods differ, what a score costs, which method fits your limits."""
    if output is None and form in (None, "html") and not as_json:
        output = DEFAULT_OUTPUT
    if output is not None:
        _check_output(output, directories, force=force)
    form = _form(output, form)
    made, text = _make(directories, output, form, metric, _limits(max_memory, max_seconds, max_loss), as_json=as_json)
    if output is not None:
        from peftlab.core.files import write_text

        write_text(output, text)
    if as_json:
        from peftlab.report.document import report_json

        print_result(json.dumps(report_json(made), indent=2, ensure_ascii=False))
    elif output is None:
        print(text, end="")
    else:
        print(summary(made, output))


def _form(output: Path | None, form: Format | None) -> Format:
    """What to write, by the option and the file's ending.

    Raises:
        UserError: Neither tells, or they contradict each other.
    """
    from peftlab.core.errors import UserError

    said: Format | None = "html" if output is None else ENDINGS.get(output.suffix.lower())
    if form is None and said is None:
        raise UserError(
            "the ending does not tell what to write",
            where=f"--output {output}",
            hint="Known: .html, .md, .csv; or add --format. Figures for programs: --json.",
        )
    if output is not None and output.suffix and form is not None and said not in (None, form):
        raise UserError(
            f"the ending of {output} says {said}",
            where=f"--format {form}",
            hint="Leave --format out, or change the ending.",
        )
    return form or said or "html"


def _limits(max_memory: str | None, max_seconds: float | None, max_loss: float | None) -> Limits:
    from peftlab.report.choice import Limits, parse_size

    return Limits(parse_size(max_memory) if max_memory is not None else None, max_seconds, max_loss)


def _check_output(output: Path, directories: list[Path], *, force: bool) -> None:
    """A page that a report has written may be written anew; whatever else is there is kept.

    Raises:
        UserError: The file is there and no page of a report, is among what is compared, or cannot be written.
    """
    from peftlab.core.destination import check_file
    from peftlab.report.page import is_page

    read = [path for path in directories if path.is_file()]
    inside = any(output.resolve().is_relative_to(folder.resolve()) for folder in directories)
    if inside and output.suffix.lower() in RECORDS:
        read.append(output)
    check_file(output, inputs=read, force=force, ours="report of peftlab", is_ours=is_page)


def _make(
    directories: list[Path], output: Path | None, form: Format, metric: str | None, limits: Limits, *, as_json: bool
) -> tuple[Report, str]:
    from peftlab.report.csv_file import render_csv
    from peftlab.report.document import build_report
    from peftlab.report.markdown import render_markdown
    from peftlab.report.page import render_html

    made = build_report(directories, base=output.parent if output else None, metric=metric, limits=limits)
    if output is None and as_json:
        return made, ""
    render = {"html": render_html, "markdown": render_markdown, "csv": render_csv}[form]
    return made, render(made)


def summary(made: Report, output: Path) -> str:
    """A report for a person, on less than a screen."""
    from peftlab.report.collapse import collapse_notices
    from peftlab.report.headlines import headline
    from peftlab.report.label_curves import label_headline
    from peftlab.report.notices import NOTHING_TO_COMPARE
    from peftlab.report.sequence_parts import sequence_headline

    lines = [sequence_headline(found) for found in made.sequences]
    lines += [label_headline(found) for found in made.label_curves]
    for comparison, choice in zip(made.comparisons, made.choices(), strict=True):
        prefix = f"{comparison.title}: " if len(made.comparisons) > 1 else ""
        lines.append(f"{prefix}{headline(comparison)}")
        lines += [f"  Note: {prefix}{collapse}" for collapse in collapse_notices(comparison)]
        if made.limits.any:
            lines += [f"  {choice.answer}", *(f"    {line}" for line in choice.evidence)]
    if not made.comparisons:
        lines.append(NOTHING_TO_COMPARE)
    lines += [f"  Note: {notice.text}" for notice in made.notices if notice.warning]
    lines += [f"  Left out: {item.path}: {item.reason}" for item in made.excluded[:8]]
    if len(made.excluded) > 8:
        lines.append(f"  … and {len(made.excluded) - 8} more; the report lists them all.")
    return "\n".join([*lines, f"  report  {output}"])

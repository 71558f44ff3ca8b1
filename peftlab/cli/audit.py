"""``peftlab audit``: where a run can be trusted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from peftlab.cli.computing import start_computing
from peftlab.cli.json_object import print_result
from peftlab.cli.options import Device, Encoding, Force, Format, Json, Offline, Read, Run, ThreadCount
from peftlab.cli.output import reporting
from peftlab.cli.verbs import verb
from peftlab.core.amounts import plural
from peftlab.core.seed import LARGEST_SEED

SHOWN = 5
"""Figures of a part that the terminal shows."""


@verb()
def audit(
    run: Run,
    data: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A table with labels. Default: what the run was not trained on."),
    ] = None,
    before: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="Another run on the same rows: say what has become better since, and worse."),
    ] = None,
    slices: Annotated[
        list[str] | None, typer.Option(metavar="COLUMN", help="Also part the errors by this column. May be repeated.")
    ] = None,
    parts: Annotated[
        str | None, typer.Option(metavar="NAME,…", help="Only these parts of `peftlab ls audits`. Default: all.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="PART.KEY=VALUE", help="A key of a part, such as robustness.texts=300."),
    ] = None,
    fail_under: Annotated[
        Path | None, typer.Option(metavar="FILE.yaml", help="Thresholds; exit code 1 where one is not kept.")
    ] = None,
    output: Annotated[Path | None, typer.Option(metavar="FILE.html", help="Write the page.")] = None,
    seed: Annotated[int, typer.Option(min=0, max=LARGEST_SEED, help="Of all that is drawn at random.")] = 0,
    force: Force = False,
    file_format: Format = None,
    encoding: Encoding = "utf-8",
    read: Read = None,
    device: Device = "auto",
    threads: ThreadCount = None,
    offline: Offline = False,
    as_json: Json = False,
) -> None:
    """Look for errors, weaknesses, unfairness and faults in the data of a run."""
    with reporting() as reporter:
        from peftlab.artifact.saved_export import inputs_of_saved
        from peftlab.audit.audit import audit_run
        from peftlab.audit.page import is_audit_page, write_page
        from peftlab.audit.run_audit import choose_parts
        from peftlab.audit.thresholds import read_thresholds
        from peftlab.core.destination import check_file, check_page
        from peftlab.inference.files import reading_config, refuse_options_without_file, refuse_unread
        from peftlab.inference.load_tuned import load_tuned

        chosen = choose_parts([name for name in (parts or "").split(",") if name], settings or [])
        tables = [*([data] if data else []), *(Path(table) for part in chosen for table in part.tables())]
        if not tables:
            refuse_options_without_file(file_format, encoding, read or [], by="--data")
        limits = read_thresholds(fail_under, [part.registered_name for part in chosen]) if fail_under else None
        if output is not None:
            inputs = [*inputs_of_saved(run), *(inputs_of_saved(before) if before else []), *([data] if data else [])]
            check_file(output, inputs=inputs, force=force, ours="page of peftlab audit", is_ours=is_audit_page)
            check_page(output)
        place = start_computing(device, threads, reporter.say)
        tuned = load_tuned(run, offline=offline, device=place, report=reporter.say)
        earlier = load_tuned(before, offline=offline, device=place, report=reporter.say) if before else None
        reading = reading_config(tuned.recipe, file_format, encoding, read or [])
        refuse_unread(tables, reading, file_format, read or [], has_numbers=bool(tuned.task.number_columns()))
        columns = [name.strip() for item in slices or [] for name in item.split(",") if name.strip()]
        report = audit_run(
            tuned,
            chosen,
            reporter,
            reading=reading,
            data=data,
            before=earlier,
            slices=columns,
            offline=offline,
            seed=seed,
        )
        if limits is not None:
            found = {"breaches": limits.breaches(report), "thresholds": len(limits.limits)}
            report = report.model_copy(update=found)
        if output is not None:
            write_page(report, output)
    if as_json:
        print_result(json.dumps(report.model_dump(mode="json"), indent=2, ensure_ascii=False))
    else:
        print(_summary(report))
        if output is not None:
            print(f"\npage: {output}")
    if report.breaches:
        raise typer.Exit(1)


def _summary(report: Any) -> str:
    from peftlab.audit.page import changed, changes, shown_interval, shown_value, trust, unfair, verdict

    lines = [f"{report.run} on {report.data}: {plural(report.rows, 'row')}", "", f"{verdict(report)}."]
    lines += [f"  {breach.sentence}" for breach in report.breaches]
    lines += [f"  {report.figures[name].sentence}  [{name}]" for name in report.alarms]
    lines += [trust(report), *report.caveats]
    if report.before is not None:
        lines += ["", f"Since {report.before.run}: {changed(report.before)}."]
        lines += [f"  {why}" for why in [unfair(report.before)] if why]
        lines += [f"  {line}" for line in changes(report.before)]
    for part in report.parts.values():
        lines += ["", part.title]
        for name in part.figures[:SHOWN]:
            figure = report.figures[name]
            interval = shown_interval(figure)
            between = f" ({interval})" if interval else ""
            lines.append(f"  {shown_value(figure, figure.value):>12}{between}, {figure.n} {figure.sampled}  {name}")
        if len(part.figures) > SHOWN:
            lines.append(f"  … and {len(part.figures) - SHOWN} more; --output page.html or --json shows all")
        lines += [f"  {note}" for note in part.notes]
    if report.skipped:
        lines += ["", "Not looked at"]
        lines += [f"  {name}: {why}" for name, why in report.skipped.items()]
    return "\n".join(map(_printable, lines))


def _printable(line: str) -> str:
    """What names and sentences have from the rows must not write elsewhere on the screen, or change its colours."""
    return "".join(sign if sign.isprintable() else " " for sign in line)

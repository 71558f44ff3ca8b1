"""``peftlab continue``: a run goes on with new rows."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from peftlab.cli.computing import start_computing
from peftlab.cli.json_object import print_result
from peftlab.cli.options import Device, Json, Offline, Overrides, ThreadCount
from peftlab.cli.output import reporting
from peftlab.cli.run import next_commands, summary
from peftlab.cli.verbs import verb
from peftlab.core.errors import UserError


def _share(text: str) -> float:
    """``5%`` and ``0.05`` are the same."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*(%?)\s*", text)
    value = float(found[1]) / (100 if found[2] else 1) if found else -1.0
    if not 0 <= value <= 1:
        raise UserError(f"a share such as 5% or 0.05 is needed, not {text!r}", where="--replay")
    return value


@verb()
def continue_run(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a finished run.", show_default=False)],
    data: Annotated[
        str,
        typer.Option(
            metavar="NEW",
            help="New rows, with the columns that the run was tuned on: a table, a folder with a file for each split, "
            "or '{train: FILE, test: FILE}'.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output-dir",
            "--output",
            metavar="DIR",
            help="The new run's folder. Default: runs/<name>-<UTC time>.",
            show_default=False,
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Go on with an interrupted one: that in --output-dir, or the latest with the new run's name.",
        ),
    ] = False,
    replay: Annotated[
        str, typer.Option(metavar="SHARE", help="Share of the earlier training rows to learn again.")
    ] = "5%",
    overrides: Overrides = None,
    fail_under: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.yaml",
            help="Thresholds of `peftlab audit`: exit code 1 where the new run is worse than the earlier one.",
            show_default=False,
        ),
    ] = None,
    device: Device = "auto",
    threads: ThreadCount = None,
    offline: Offline = False,
    as_json: Json = False,
) -> None:
    """Train a finished run on with new rows, and see what it has forgotten. The run itself stays as it is."""
    with reporting() as reporter:
        from peftlab.artifact.saved_run import SavedRun
        from peftlab.run.continuation import compare_with_earlier, continuation_recipe
        from peftlab.run.run import RunResult, run_recipe

        share, limits = _share(replay), _thresholds(fail_under)
        earlier = SavedRun.open(run)
        recipe, document = continuation_recipe(earlier, data, replay=share, overrides=overrides or [])
        place = start_computing(device, threads, reporter.say)
        result = run_recipe(
            recipe,
            document,
            output_dir=output,
            resume=resume,
            offline=offline,
            device=device,
            reporter=reporter,
        )
        is_done = result.record.status == "success"
        changes = compare_with_earlier(result) if is_done else []
        if limits is not None and is_done:
            record = _judged(earlier.folder, result, changes, limits, reporter, device=place, offline=offline)
            result = RunResult(record, result.folder)
    if as_json:
        shown = {
            "folder": str(result.folder),
            "changes": [{**change.model_dump(mode="json"), "is_worse": change.is_worse} for change in changes],
            "record": result.record.model_dump(mode="json"),
        }
        print_result(json.dumps(shown, indent=2, ensure_ascii=False))
    else:
        print("\n".join([summary(result), *_changes(changes), *_verdict(result.record.gate), *_next(result, run)]))
    gate = result.record.gate
    raise typer.Exit(0 if is_done and (gate is None or gate.accepted) else 1)


def _thresholds(path: Path | None) -> Any:
    """The thresholds, and the parts of an audit that they name."""
    if path is None:
        return None
    from peftlab.audit.run_audit import choose_parts
    from peftlab.audit.thresholds import OF_ALL_PARTS, read_thresholds
    from peftlab.core.audit import AUDITS

    limits = read_thresholds(path, list(AUDITS))
    names = dict.fromkeys(name.partition(".")[0] for name in limits.limits if name not in OF_ALL_PARTS)
    return limits, choose_parts([] if OF_ALL_PARTS & limits.limits.keys() else list(names), [])


def _judged(earlier: Path, result: Any, changes: Any, limits: Any, reporter: Any, *, device: Any, offline: bool) -> Any:
    """The record with whether the run may take the earlier one's place; it is written down."""
    from peftlab.audit.gate import audit_both, worse_figures
    from peftlab.core.record import Gate, write_record

    thresholds, parts = limits
    report = audit_both(earlier, result.folder, parts, reporter, device=device, offline=offline)
    worse = [
        f"{change.metric} on {change.split} went from {change.earlier:.4f} to {change.now:.4f} "
        f"({change.low:+.4f} to {change.high:+.4f})"
        for change in changes
        if change.is_worse
    ]
    worse += worse_figures(report, thresholds)
    record = result.record.model_copy(update={"gate": Gate(accepted=not worse, worse=worse)})
    write_record(record, result.folder)
    return record


def _changes(changes: Any) -> list[str]:
    lines: list[str] = []
    for change in changes:
        what = "new rows" if change.split == "test" else "earlier rows"
        interval = (
            "" if change.interval is None else f" (95 % interval {change.interval[0]:.4f} to {change.interval[1]:.4f})"
        )
        lines.append(
            f"  {'' if lines else 'earlier run':<11} {change.metric} on {what}, {change.split}: {change.earlier:.4f} → "
            f"{change.now:.4f}{interval}, {change.n} rows"
        )
        if change.difference is not None:
            lines.append(
                f"  {'':<11}   difference {change.difference:+.4f} ({change.low:+.4f} to {change.high:+.4f}), "
                f"p = {change.p_value:.2g}{': worse' if change.is_worse else ''}"
            )
        lines += [f"  {'':<11}   Note: {note}" for note in change.notes]
    return lines


def _next(result: Any, earlier: Path) -> list[str]:
    gate = result.record.gate
    if gate is None or gate.accepted:
        return next_commands(result)
    new, old = shlex.quote(str(result.folder)), shlex.quote(str(earlier))
    return [
        f"  next        peftlab audit {new} --before {old} --output FILE.html",
        "              the same command with more --replay and another --output-dir",
    ]


def _verdict(gate: Any) -> list[str]:
    if gate is None:
        return []
    if gate.accepted:
        return ["  accepted    the audit is not worse than that of the earlier run"]
    return ["  REFUSED     the new run is worse than the earlier one, which stays as it is:"] + [
        f"              {sentence}" for sentence in gate.worse
    ]

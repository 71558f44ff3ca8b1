"""``peftlab evaluate``: the scores of a run on new data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from peftlab.cli.computing import start_computing
from peftlab.cli.json_object import print_result
from peftlab.cli.options import Device, Encoding, Format, Json, Offline, Read, Run, ThreadCount
from peftlab.cli.output import reporting
from peftlab.cli.verbs import verb
from peftlab.core.amounts import plural


@verb()
def evaluate(
    run: Run,
    data: Annotated[Path, typer.Option(metavar="FILE", help="A table with the columns that the run was tuned on.")],
    file_format: Format = None,
    encoding: Encoding = "utf-8",
    read: Read = None,
    device: Device = "auto",
    threads: ThreadCount = None,
    offline: Offline = False,
    as_json: Json = False,
) -> None:
    """Score a run or an export on a table with labels, by the run's own metrics."""
    with reporting() as reporter:
        from peftlab.data.streaming import stream_file
        from peftlab.inference.evaluate_rows import evaluate_rows
        from peftlab.inference.files import options_in_hints, reading_config, refuse_unread
        from peftlab.inference.load_tuned import load_tuned

        chosen = start_computing(device, threads, reporter.say)
        tuned = load_tuned(run, offline=offline, device=chosen, report=reporter.say)
        keep = tuned.task.source_columns()
        config = reading_config(tuned.recipe, file_format, encoding, read or [])
        refuse_unread([data], config, file_format, read or [], has_numbers=bool(tuned.task.number_columns()))
        with options_in_hints():
            stream = stream_file(
                data,
                config,
                keep=keep,
                number_columns=tuned.task.number_columns(),
                image_columns=tuned.task.image_columns(),
            )
            found = evaluate_rows(tuned, stream, reporter, offline=offline)
    print_result(json.dumps(found.model_dump(mode="json"), indent=2) if as_json else _summary(found))


def _summary(found: Any) -> str:
    scored = f", scored as {found.examples} examples" if found.examples != found.rows else ""
    lines = [f"{found.run} on {found.data}: {plural(found.rows, 'row')}{scored}"]
    for name, value in found.scores.items():
        interval = found.intervals[name]
        between = f"   95 % interval {interval[0]:.4f} to {interval[1]:.4f}" if interval else ""
        lines.append(f"  {name:<20} {value:.4f}{between}")
    lines += [f"  Note: {note}" for note in found.notes]
    if found.expected_calibration_error is not None:
        lines.append(
            f"  calibration error    {found.expected_calibration_error:.4f} at temperature {found.temperature:.3f}"
        )
    if found.truncated:
        lines.append(f"  {found.truncated} texts were longer than the model was tuned for, and were cut")
    return "\n".join(lines)

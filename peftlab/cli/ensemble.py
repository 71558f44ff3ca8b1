"""``peftlab ensemble``: several runs as one."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from peftlab.cli.computing import start_computing
from peftlab.cli.json_object import print_result
from peftlab.cli.options import Device, Json, Offline, ThreadCount
from peftlab.cli.output import reporting
from peftlab.cli.verbs import verb


@verb()
def ensemble(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN…", help="Folders of runs of one task, with the same classes.", show_default=False),
    ],
    output: Annotated[Path, typer.Option(metavar="DIR", help="The folder to make.", show_default=False)],
    soup: Annotated[
        Literal["uniform", "greedy"] | None,
        typer.Option(
            help="Average weights, not answers, of runs of one base and method. uniform: of all runs. greedy: of those "
            "that do no harm on the validation rows.",
            show_default=False,
        ),
    ] = None,
    device: Device = "auto",
    threads: ThreadCount = None,
    offline: Offline = False,
    as_json: Json = False,
) -> None:
    """Make one model of several runs: the mean of their probabilities, or of their weights."""
    with reporting() as reporter:
        from peftlab.artifact.saved_run import SavedRun
        from peftlab.inference.ensemble.build import build_ensemble
        from peftlab.inference.ensemble.scoring import judged_by
        from peftlab.inference.ensemble.soup import build_soup

        shared: Any = {"offline": offline, "device": start_computing(device, threads, reporter.say)}
        if soup is None:
            done: Any = build_ensemble(runs, output, reporter=reporter, **shared)
            show = _of_ensemble
        else:
            done = build_soup(runs, soup, output, reporter=reporter, **shared)
            show = _of_soup
        metric = judged_by(SavedRun.open(runs[0]).recipe)
    if as_json:
        print_result(json.dumps({"output": str(output), **done.model_dump(mode="json")}, indent=2, ensure_ascii=False))
    else:
        following = f"peftlab predict {shlex.quote(str(output))} --input FILE --output FILE"
        print("\n".join([*show(done, metric), f"  folder      {output}", f"  next        {following}"]))


def _of_ensemble(done: Any, metric: str) -> list[str]:
    first = f"{done.name}: an ensemble of {len(done.members)} runs"
    runs = [(f"run {member.folder} {member.origin}", member.scores) for member in done.members]
    return [first, *_scores(done, done.scores, runs, done.rows, metric), *_compared(done.comparison)]


def _of_soup(done: Any, metric: str) -> list[str]:
    record = done.record
    kept = sum(part.kept for part in record.soup.parts)
    first = f"{record.name}: a {record.soup.kind} soup of {kept} of {len(record.soup.parts)} runs"
    runs = [(f"{part.origin}{'' if part.kept else ' (left out)'}", part.scores) for part in record.soup.parts]
    return [first, *_scores(done, record.scores, runs, record.data.rows, metric), *_compared(done.comparison)]


def _scores(done: Any, scores: Any, runs: list[tuple[str, Any]], rows: Any, metric: str) -> list[str]:
    lines = []
    for split, own in scores.items():
        shown = []
        for name, value in own.items():
            interval = done.intervals[split].get(name)
            between = f" ({interval[0]:.4f} to {interval[1]:.4f})" if interval else ""
            shown.append(f"{name} {value:.4f}{between}")
        lines.append(f"  {split:<11} {'   '.join(shown)}   ({rows[split]} examples)")
    lines += [f"  Note: {note}" for note in done.notes]
    split = "test" if "test" in scores else "validation"
    # On few rows a run may have no such score.
    known = [(name, of_run[split][metric]) for name, of_run in runs if metric in of_run[split]]
    return [*lines, *(f"  {metric} on {split}: {score:.4f}   {name}" for name, score in known)]


def _compared(test: Any) -> list[str]:
    if test is None:
        return []
    return [
        f"  against the best run ({test.best}, by {test.chosen_on}): {test.metric} {test.difference:+.4f} "
        f"({test.low:+.4f} to {test.high:+.4f}, p = {test.p_value:.2g}) on {test.split}"
    ]

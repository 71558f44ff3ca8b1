"""``peftlab run``: tune, evaluate, record."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from peftlab.cli.computing import start_computing
from peftlab.cli.options import Device, Json, Offline, Overrides, ThreadCount
from peftlab.cli.output import reporting
from peftlab.cli.verbs import verb
from peftlab.core.amounts import duration, size


@verb()
def run(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="A recipe: a YAML file.", show_default=False)],
    overrides: Overrides = None,
    output_dir: Annotated[
        Path | None, typer.Option(help="The run's folder. Default: runs/<name>-<UTC time>.", show_default=False)
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Continue an interrupted run: the one in --output-dir, or the latest with this name."
        ),
    ] = False,
    device: Device = "auto",
    threads: ThreadCount = None,
    offline: Offline = False,
    as_json: Json = False,
) -> None:
    """Tune a model as a recipe says, evaluate it, and leave a record."""
    with reporting() as reporter:
        from peftlab.recipe.schema import load_recipe
        from peftlab.run.run import run_recipe

        loaded, document = load_recipe(recipe, overrides or [])
        start_computing(device, threads, reporter.say)
        result = run_recipe(
            loaded,
            document,
            output_dir=output_dir,
            resume=resume,
            offline=offline,
            device=device,
            reporter=reporter,
        )
    if as_json:
        print((result.folder / "record.json").read_text(encoding="utf-8").strip())
    else:
        print(summary(result))
    raise typer.Exit(0 if result.record.status == "success" else 1)


def summary(result: Any) -> str:
    """A run's outcome for a person, on less than a screen."""
    record = result.record
    lines = [f"{record.name}: {record.status} in {duration(record.seconds)}"]
    if record.error:
        lines.append(f"  error       {record.error}")
    for split, scores in record.scores.items():
        figures = "   ".join(f"{name} {value:.4f}" for name, value in scores.items())
        lines.append(f"  {split:<11} {figures}   ({record.data.rows[split]} examples)")
    if record.parameters:
        share = record.parameters.trainable / record.parameters.total
        lines.append(
            f"  trained     {record.parameters.trainable:,} of {record.parameters.total:,} parameters ({share:.2%})"
        )
    if record.throughput:
        speed = f"{record.throughput.tokens_per_second:,.0f} tokens/s"
        if record.throughput.flops_utilization is not None:
            speed += f", {record.throughput.flops_utilization:.0%} of this machine's matmul rate"
        lines.append(f"  speed       {speed}; {record.throughput.padding_fraction:.1%} padding")
    if record.memory:
        lines.append(f"  memory      peak {size(record.memory.peak_bytes)} in training")
    lines += [f"  {'' if at else 'data':<11} {line}" for at, line in enumerate(_data_lines(record))]
    lines.append(_guards_line(record))
    lines.append(f"  folder      {result.folder}")
    return "\n".join(line for line in lines if line)


def _data_lines(record: Any) -> list[str]:
    from peftlab.data.notices import describe_notes

    return describe_notes(record.data.notes) if record.data else []


def _guards_line(record: Any) -> str:
    if not record.guards:
        return ""
    passed = sum(guard.status == "passed" for guard in record.guards.values())
    line = f"  guards      {passed} passed"
    for name, guard in record.guards.items():
        if guard.status == "failed":
            line += f"\n              {'waived' if guard.waived else 'FAILED'}: {name}: {guard.detail}"
    return line

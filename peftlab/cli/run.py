"""``peftlab run``: tune, evaluate, record."""

from __future__ import annotations

import contextlib
import os
import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from peftlab.cli.computing import start_computing
from peftlab.cli.json_object import print_result
from peftlab.cli.options import Device, Json, Offline, Overrides, Processes, ThreadCount
from peftlab.cli.output import reporting
from peftlab.cli.verbs import verb
from peftlab.core.amounts import duration, size
from peftlab.core.errors import UserError
from peftlab.training.launch import find_start


@verb()
def run(
    recipe: Annotated[
        Path | None,
        typer.Argument(metavar="RECIPE", help="A recipe: a YAML file. Without it --set gives every key."),
    ] = None,
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
    processes: Processes = None,
    process_timeout: Annotated[
        float,
        typer.Option(
            metavar="SECONDS",
            min=1,
            max=604_800,
            help="How long processes wait for one that does not come, or is silent; a week at most.",
        ),
    ] = 120.0,
    offline: Offline = False,
    as_json: Json = False,
) -> None:
    """Tune a model as a recipe says, evaluate it, and leave a record."""
    if processes is not None and processes > 1:
        _read(recipe, overrides or [])  # what is wrong with it is told before each process loads torch
        arguments = _arguments(recipe, overrides, output_dir, resume, device, process_timeout, offline, as_json)
        raise typer.Exit(_run_processes(arguments, processes, threads))
    with contextlib.ExitStack() as entered:
        reporter = entered.enter_context(reporting())
        # Before torch is loaded, which takes seconds; of several processes the first one tells what is wrong.
        read = _read(recipe, overrides or []) if find_start() is None else None
        from peftlab.core.record import RECORD_NAME
        from peftlab.run.run import run_recipe
        from peftlab.training.joining import joined_world, own_device

        world = entered.enter_context(joined_world(device, process_timeout))
        loaded, document = read or _read(recipe, overrides or [])
        start_computing(own_device(device), threads, reporter.say)
        result = run_recipe(
            loaded,
            document,
            output_dir=output_dir,
            resume=resume,
            offline=offline,
            device=device,
            reporter=reporter,
        )
    if not world.is_first:
        pass  # the first process tells
    elif as_json:
        print_result((result.folder / RECORD_NAME).read_text(encoding="utf-8").strip())
    else:
        print("\n".join([summary(result), *next_commands(result)]))
    raise typer.Exit(0 if result.record.status == "success" else 1)


def _read(recipe: Path | None, overrides: list[str]) -> tuple[Any, Any]:
    from peftlab.recipe.from_settings import recipe_of_settings
    from peftlab.recipe.schema import load_recipe

    return recipe_of_settings(overrides) if recipe is None else load_recipe(recipe, overrides)


def _arguments(
    recipe: Path | None,
    overrides: list[str] | None,
    output_dir: Path | None,
    resume: bool,
    device: str,
    process_timeout: float,
    offline: bool,
    as_json: bool,
) -> list[str]:
    """The command of each of several processes."""
    return [
        "run",
        *([] if recipe is None else [str(recipe)]),
        *(part for override in overrides or [] for part in ("--set", override)),
        *([] if output_dir is None else ["--output-dir", str(output_dir)]),
        *(["--resume"] if resume else []),
        *("--device", device),
        *("--process-timeout", str(process_timeout)),
        *(["--offline"] if offline else []),
        *(["--json"] if as_json else []),
    ]


def _run_processes(arguments: list[str], count: int, threads: int | None) -> int:
    """Start the processes, each with its part of the cores where the user has not said how many threads."""
    from peftlab.core.threads import COUNT_VARIABLES, Watch
    from peftlab.training.launch import count_of_processes
    from peftlab.training.local_processes import run_processes

    started, name = count_of_processes()
    if started > 1:
        raise UserError(
            f"--processes {count} would start {count} processes in each of {started}",
            where=f"the variable {name}",
            hint="Leave --processes out where a launcher starts the processes.",
        )
    if threads is None and not any(name in os.environ for name in COUNT_VARIABLES):
        threads = max(1, int(Watch().free_cores()[0] + 0.5) // count)
    return run_processes(arguments, count, threads=threads)


def summary(result: Any) -> str:
    """A run's outcome for a person, on less than a screen."""
    record = result.record
    lines = [f"{record.name}: {record.status} in {duration(record.seconds)}"]
    if record.error:
        lines.append(f"  error       {record.error}")
    width = max([11, *map(len, record.scores)])
    for split, scores in record.scores.items():
        figures = "   ".join(f"{name} {value:.4f}" for name, value in scores.items())
        lines.append(f"  {split:<{width}} {figures}   ({record.data.rows[split]} examples)")
    if record.parameters and record.steps == 0 and record.status == "success":
        lines.append("  trained     nothing: no step was taken (training.max_steps: 0)")
    elif record.parameters:
        share = record.parameters.trainable / record.parameters.total
        lines.append(
            f"  trained     {record.parameters.trainable:,} of {record.parameters.total:,} parameters ({share:.2%})"
        )
    if (count := record.environment.get("processes", 1)) > 1:
        lines.append(f"  processes   {count}, by {record.environment['backend']}")
    if record.throughput:
        speed = f"{record.throughput.tokens_per_second:,.0f} tokens/s"
        if record.throughput.flops_utilization is not None:
            used = record.throughput.flops_utilization
            # Nothing is faster than the products that it is made of: these were measured in a busier moment.
            of_what = f"{used:.0%} of this machine's" if used <= 1 else "more than a busy machine's"
            speed += f", {of_what} matmul rate"
        lines.append(f"  speed       {speed}; {record.throughput.padding_fraction:.1%} padding")
    if record.memory:
        phase = "evaluation" if record.recipe["training"]["max_steps"] == 0 else "training"
        lines.append(f"  memory      peak {size(record.memory.peak_bytes)} in {phase}")
    lines += [f"  {'' if at else 'data':<11} {line}" for at, line in enumerate(_data_lines(record))]
    lines.append(_guards_line(record))
    lines.append(f"  folder      {result.folder}")
    return "\n".join(line for line in lines if line)


def next_commands(result: Any) -> list[str]:
    """What can be done with a run now, or about its end."""
    folder, status = shlex.quote(str(result.folder)), result.record.status
    if status == "success":
        commands = [
            f"peftlab predict {folder} --input FILE --output FILE",
            f"peftlab report {folder}",
            f"peftlab export {folder} --format merged --output DIR",
        ]
    elif status in ("cancelled", "failed"):
        commands = [f"the same command with --output-dir {folder} --resume"]
    elif status == "out_of_memory":
        commands = [f"peftlab estimate {folder}/recipe.yaml"]
    else:
        commands = ["the same command with a lower training.learning_rate"]
    return [f"  {'' if at else 'next':<11} {command}" for at, command in enumerate(commands)]


def _data_lines(record: Any) -> list[str]:
    from peftlab.core.task import TASKS
    from peftlab.data.notices import describe_notes

    return describe_notes(record.data.notes, TASKS[record.recipe["task"]["type"]].compared_by) if record.data else []


def _guards_line(record: Any) -> str:
    if not record.guards:
        return ""
    passed = sum(guard.status == "passed" for guard in record.guards.values())
    line = f"  guards      {passed} passed"
    for name, guard in record.guards.items():
        if guard.status == "failed":
            line += f"\n              {'waived' if guard.waived else 'FAILED'}: {name}: {guard.detail}"
        elif name == "answers_vary" and "too few" in guard.detail:  # all are alike, which may be no fault
            line += f"\n              note: {name}: {guard.detail}"
    return line

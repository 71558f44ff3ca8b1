"""``peftlab bench``: run what is missing of a suite, and report."""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from peftlab.cli.computing import start_computing
from peftlab.cli.executors import ExecutorName, Wishes, executor_site
from peftlab.cli.json_object import print_result
from peftlab.cli.options import Device, Json, Offline, ThreadCount
from peftlab.cli.output import reporting
from peftlab.cli.stopping import resumable, stoppable
from peftlab.cli.verbs import verb
from peftlab.core.amounts import duration, plural
from peftlab.core.reporter import Reporter, Silent


@verb()
def bench(
    suite: Annotated[Path, typer.Argument(metavar="SUITE", help="A suite: a YAML file.", show_default=False)],
    output_dir: Annotated[
        Path | None, typer.Option(help="The suite's folder. Default: runs/<name of the suite>.", show_default=False)
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Number of runs at once, each on a GPU of its own if there are enough; else timings on a machine "
            "are less exact. Default: 1; on "
            "Ray, as many as the cluster has room for.",
            show_default=False,
        ),
    ] = None,
    executor: Annotated[
        ExecutorName, typer.Option(help="Where runs are executed: on this machine, or on a Ray cluster.")
    ] = "local",
    address: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="The Ray cluster: its head, or auto on a node of it. Default: the variable RAY_ADDRESS.",
            show_default=False,
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would run and how long it takes. Run nothing.")
    ] = False,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Run failed cells again.")] = False,
    device: Device = "auto",
    threads: ThreadCount = None,
    offline: Offline = False,
    as_json: Json = False,
) -> None:
    """Compare methods: tune each with the same budget, run all seeds, and write a report. Always resumable."""
    with resumable(), reporting() as reporter, contextlib.ExitStack() as stack:
        from peftlab.bench.audits import audit_cells
        from peftlab.bench.execute import Execution
        from peftlab.bench.plan import Plan
        from peftlab.bench.routing import route_sequences
        from peftlab.bench.suite import load_suite
        from peftlab.bench.suite_data import same_data
        from peftlab.bench.suite_folder import REPORT_NAME, SuiteFolder, locked, refuse_foreign_folder
        from peftlab.report.page import is_page, write_report

        loaded, document = load_suite(suite)
        path = output_dir or Path("runs") / loaded.name
        refuse_foreign_folder(path, is_page=is_page)
        wishes = Wishes(device, threads, workers, offline)
        site = stack.enter_context(executor_site(executor, address, wishes, reporter))
        with _unpacked_copy(path) if dry_run else _unpacked(path) as folder:
            plan = Plan(loaded, document, SuiteFolder(folder), offline=offline, reporter=reporter)
            same_data(folder, plan.checked, where=path)
            plan.learn_from_finished()
            shown = {**describe(plan, workers=site.at_once, retry_failed=retry_failed), "folder": str(path)}
            if dry_run:
                print_result(json.dumps(shown, indent=2) if as_json else as_text(shown))
                return
            reporter.say(as_text(shown))
            chosen = site.build(plan.folder.logs)
            # Ray prints of lost nodes to standard output, which is for the result.
            with locked(path), stoppable(), contextlib.redirect_stdout(sys.stderr):
                outcome = Execution(
                    plan,
                    chosen,
                    workers=site.workers,
                    retry_failed=retry_failed,
                    reporter=reporter,
                    choose_rows=row_chooser(wishes, reporter),
                ).execute()
                not_routed = route_sequences(plan, sequence_router(wishes, reporter), reporter)
                not_audited = audit_cells(path, cell_auditor(wishes, reporter), reporter) if loaded.audit else {}
            write_report([path], path / REPORT_NAME)
    failed = sum(count for status, count in outcome.statuses.items() if status != "success")
    result = {
        "folder": str(path),
        "report": str(path / REPORT_NAME),
        "statuses": outcome.statuses,
        "runs": outcome.runs_done,
        "not_audited": not_audited,
        "not_routed": not_routed,
        "seconds": round(outcome.seconds, 1),
    }
    print_result(json.dumps(result, indent=2) if as_json else ending(result))
    raise typer.Exit(1 if failed or not_audited or not_routed else 0)


@contextlib.contextmanager
def _unpacked(path: Path) -> Iterator[Path]:
    """A pack is a folder of runs while the suite runs, and a pack again afterwards, however the suite ends."""
    from peftlab.bench.suite_folder import locked
    from peftlab.core.errors import UserError
    from peftlab.packs.layout import is_pack
    from peftlab.packs.unpacking import unpack

    if not is_pack(path):
        yield path
        return
    with locked(path):
        unpack(path)
    try:
        yield path
    except BaseException:
        with contextlib.suppress(UserError):  # what has happened before is to be told
            _pack_again(path)
        raise
    _pack_again(path)


def _pack_again(path: Path) -> None:
    from peftlab.bench.suite_folder import locked
    from peftlab.cli.pack import pack_with_reports

    with locked(path):
        pack_with_reports(path)


@contextlib.contextmanager
def _unpacked_copy(path: Path) -> Iterator[Path]:
    """A folder to look at: a pack stays what it is."""
    from peftlab.packs.layout import is_pack
    from peftlab.packs.unpacking import unpack_copy

    if not is_pack(path):
        yield path
        return
    with tempfile.TemporaryDirectory() as copy:
        unpack_copy(path, Path(copy))
        yield Path(copy)


def describe(plan: Any, *, workers: int, retry_failed: bool) -> dict[str, Any]:
    """What would run."""
    runs = list(plan.runs(retry_failed=retry_failed))
    cells = []
    for cell in plan.cells:
        own = [run for run in runs if run.cell is cell]
        cells.append(
            {
                "cell": cell.name,
                "trials": sum(run.trial for run in own),
                "runs": sum(not run.trial for run in own),
                "missing": sum(not run.done for run in own),
                "refused": plan.refusals.get(cell.name),
            }
        )
    return {
        "suite": plan.suite.name,
        "folder": str(plan.folder.path),
        "tuning": plan.suite.tuning is not None,
        "cells": cells,
        "missing": sum(not run.done for run in runs),
        "done": sum(run.done for run in runs),
        "workers": workers,
        "estimated_seconds": round(plan.seconds_left(retry_failed=retry_failed) / workers),
        "estimate_is_rough": plan.clock.is_rough,
    }


def as_text(shown: dict[str, Any]) -> str:
    """The plan for a person."""
    width = max(len(cell["cell"]) for cell in shown["cells"])
    lines = [f"suite {shown['suite']} in {shown['folder']}"]
    for cell in shown["cells"]:
        trials, runs = plural(cell["trials"], "trial"), plural(cell["runs"], "run")
        lines.append(f"  {cell['cell']:<{width}}  {trials:<10}  {runs:<8}  {cell['missing']:>3} missing")
    for cell in shown["cells"]:
        if cell["refused"]:
            lines.append(f"  {cell['cell']} cannot run: " + cell["refused"].replace("\n", "\n  "))
    if not shown["tuning"]:
        lines.append("  tuning is off: learning rates are those that the suite sets, or the default of each method")
    basis = "roughly, before any run has been timed" if shown["estimate_is_rough"] else "by the runs that are done"
    missing, done = shown["missing"], shown["done"]
    if not missing:
        lines.append(f"nothing is missing: {plural(done, 'run')} done")
    else:
        lines.append(
            f"{plural(missing, 'run')} missing, {done} done; about "
            f"{duration(shown['estimated_seconds'])} ({basis}; workers: {shown['workers']})"
        )
    return "\n".join(lines)


def cell_auditor(wishes: Wishes, reporter: Reporter) -> Callable[[Path], dict[str, Any]]:
    """Audits a cell by all parts, as they are."""

    def audit(folder: Path) -> dict[str, Any]:
        from peftlab.audit.audit import audit_run
        from peftlab.audit.run_audit import choose_parts
        from peftlab.inference.files import reading_config
        from peftlab.inference.load_tuned import load_tuned

        place = start_computing(wishes.device, wishes.threads, reporter.say)
        tuned = load_tuned(folder, offline=wishes.offline, device=place, report=reporter.say)
        reading = reading_config(tuned.recipe, None, "utf-8")
        report = audit_run(tuned, choose_parts([], []), Silent(), reading=reading, offline=wishes.offline)
        return report.model_dump(mode="json")

    return audit


def row_chooser(wishes: Wishes, reporter: Reporter) -> Callable[[Path, Any, int, int], Sequence[int]]:
    """Chooses the rows of a label curve that are labelled next."""

    def choose_rows(folder: Path, strategy: Any, count: int, seed: int) -> Sequence[int]:
        from peftlab.selection.own_rows import choose_own_rows

        place = start_computing(wishes.device, wishes.threads, reporter.say)
        return choose_own_rows(folder, strategy, count, seed=seed, offline=wishes.offline, device=place)

    return choose_rows


def sequence_router(wishes: Wishes, reporter: Reporter) -> Callable[[Sequence[Path]], list[Any]]:
    """Scores the runs of a sequence with a router."""

    def route(folders: Sequence[Path]) -> list[Any]:
        from peftlab.inference.routing import route_runs

        place = start_computing(wishes.device, wishes.threads, reporter.say)
        return route_runs(folders, offline=wishes.offline, device=place, report=reporter.say)

    return route


def ending(result: dict[str, Any]) -> str:
    """The outcome for a person."""
    statuses = ", ".join(f"{count} {status}" for status, count in sorted(result["statuses"].items()))
    lost = "".join(f"\n  {name} could not be audited: {why}" for name, why in result["not_audited"].items())
    lost += "".join(f"\n  {name} could not be routed: {why}" for name, why in result["not_routed"].items())
    return (
        f"{plural(result['runs'], 'run')} in {duration(result['seconds'])}; compared: {statuses}\n"
        f"  folder      {result['folder']}\n  report      {result['report']}{lost}"
    )

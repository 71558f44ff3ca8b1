"""How a run ended: its status, its guards and its record, whatever the stages raised."""

from __future__ import annotations

import datetime
import traceback

import torch

from peftlab.core.callback import CallbackError
from peftlab.core.errors import PeftlabError, first_line
from peftlab.core.files import as_os_error, write_text
from peftlab.core.plugins import fault_of
from peftlab.core.record import DataSummary, Guard, RunRecord, Status, failed_guards
from peftlab.measurement.environment import describe_environment
from peftlab.preparation.check import CheckedRecipe
from peftlab.recipe.schema import Recipe
from peftlab.run.findings import Findings
from peftlab.run.processes import describe_world
from peftlab.run.run_folder import RunFolder
from peftlab.training.determinism import lacks_determinism
from peftlab.training.evaluation import DivergedError
from peftlab.training.guards import waive
from peftlab.training.interrupts import CancelledError
from peftlab.training.micro_batches import is_out_of_memory
from peftlab.training.world import World

TRACEBACK_NAME = "traceback.txt"


def record_of(
    checked: CheckedRecipe,
    findings: Findings,
    error: BaseException | None,
    *,
    folder: RunFolder,
    device: torch.device,
    world: World,
    started_at: datetime.datetime,
    seconds: float,
) -> RunRecord:
    """The record of a run that has ended.

    Args:
        checked: What ran.
        findings: What it found until its end.
        error: What the stages raised; None: they ended.
        folder: The run's; a traceback is written there, if the error is none that has a message.
        device: Where it ran.
        world: The processes that ran it.
        started_at: When this process began it.
        seconds: How long this process took.
    """
    recipe, progress = checked.recipe, findings.progress
    unwritable = findings.drop_unwritable()
    error = error or unwritable
    guards = _all_guards(findings.guards, recipe, error)
    status, message = _status(error, guards, folder, recipe)
    return RunRecord(
        name=recipe.name,
        status=status,
        error=message,
        recipe=recipe.model_dump(mode="json"),
        scores=findings.scores,
        labels=list(checked.labels) or None,
        learned={**recipe.task.learned, **findings.learned},
        calibration=findings.calibration,
        earlier=findings.earlier,
        best_step=progress.best_step,
        tied_steps=progress.tied_steps if len(progress.tied_steps) > 1 else [],
        steps=progress.step,
        stopped_by=progress.stopped_by,
        micro_batch_size=findings.micro_batches.size,
        acceleration=findings.acceleration,
        phases=findings.clock.summary(),
        memory=findings.memory,
        throughput=findings.throughput,
        parameters=findings.parameters,
        artifact_bytes=findings.artifact_bytes,
        weights_fingerprint=findings.weights_fingerprint,
        initial_adapter_sha256=findings.initial_adapter_sha256,
        base_fingerprint=findings.base_fingerprint,
        own_head=findings.own_head,
        guards=guards,
        data=_data_summary(checked.data.summary, findings.notes),
        environment=describe_environment(device, deterministic=recipe.training.deterministic) | describe_world(world),
        resumed=findings.resumed,
        started_at=started_at.isoformat(timespec="seconds"),
        seconds=findings.earlier_seconds + seconds,
    )


def _all_guards(found: dict[str, Guard], recipe: Recipe, error: BaseException | None) -> dict[str, Guard]:
    """Every guard by its name, in the same order in every record."""
    reason = "the method has nothing of the kind" if error is None else "the run did not get so far"
    guards = {name: Guard.not_applicable(reason) for name in recipe.known_guards} | found
    if isinstance(error, DivergedError):
        guards["loss_finite"] = Guard.check(False, error.message)
    return waive(guards, recipe.waive_guards)


def _status(
    error: BaseException | None, guards: dict[str, Guard], folder: RunFolder, recipe: Recipe
) -> tuple[Status, str | None]:
    if error is None:
        if failed := failed_guards(guards):
            details = "; ".join(f"{name}: {guards[name].detail}" for name in failed)
            return "failed", f"a guard failed: {details}"
        return "success", None
    if isinstance(error, DivergedError):
        return "diverged", str(error)
    if isinstance(error, CancelledError | KeyboardInterrupt):
        return "cancelled", "stopped by the user; the same command with --resume goes on"
    if isinstance(error, CallbackError):
        write_text(folder.path / TRACEBACK_NAME, "".join(traceback.format_exception(error.__cause__)))
        return "failed", f"{error} (the traceback is in {TRACEBACK_NAME}); with resume=True the run goes on from there"
    if is_out_of_memory(error):
        first = (str(error).splitlines() or ["memory ran out"])[0]
        return "out_of_memory", f"{first} {_way_to_less_memory(recipe)}; `peftlab estimate` tells what else helps."
    if isinstance(error, PeftlabError):
        return "failed", str(error)
    error = as_os_error(error)
    if lacks_determinism(error):
        return "failed", f"{first_line(error)} Set training.deterministic to false."
    if isinstance(error, OSError):
        return "failed", ": ".join(str(part) for part in (error.strerror or error, error.filename) if part)
    write_text(folder.path / TRACEBACK_NAME, "".join(traceback.format_exception(error)))
    fault = fault_of(error)
    whose = "" if fault is None else f", raised by the plugin {fault.package} in {fault.place}"
    return "failed", f"{type(error).__name__}: {error}{whose} (the traceback is in {TRACEBACK_NAME})"


def _way_to_less_memory(recipe: Recipe) -> str:
    """The next thing to set where memory ran out: the cheapest that is not set yet."""
    training = recipe.training
    if not recipe.task.computes_in_parts and training.batch_size != 1:
        return "This task's batches cannot be cut without changing its loss: set training.batch_size to fewer"
    if recipe.task.computes_in_parts and training.micro_batch_size not in ("auto", 1) and training.batch_size != 1:
        return "Set training.micro_batch_size to auto"
    if recipe.method.supports_gradient_checkpointing and not training.gradient_checkpointing:
        return "Set training.gradient_checkpointing to true"
    if recipe.model.quantization is None and recipe.model.offload is None and not recipe.method.trains_base:
        return "Set model.quantization to nf4"
    return "Nothing cheap is left to set: choose shorter texts (task.max_length) or a smaller base"


def _data_summary(summary: DataSummary, notes: dict[str, object]) -> DataSummary:
    return summary.model_copy(update={"notes": {**summary.notes, **{k: v for k, v in notes.items() if v}}})

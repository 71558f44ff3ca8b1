"""The stages of a run, in their order: load, measure, train, save, reload, evaluate.

What each stage finds goes into :class:`~peftlab.run.findings.Findings` at once. The model that is evaluated is the one
that was saved and loaded again.
"""

from __future__ import annotations

import gc

from peftlab.core.errors import UserError
from peftlab.core.tensors import model_tensors
from peftlab.measurement.memory import peak_of, storage_bytes
from peftlab.run.evaluation_stage import EvaluationStage
from peftlab.run.loading_stage import load
from peftlab.run.measuring_stage import count_on_shapes, measure
from peftlab.run.processes import check_alike
from peftlab.run.resuming import keep_threads_of
from peftlab.run.run_context import RunContext
from peftlab.run.saving_stage import SavingStage
from peftlab.run.training_stage import TrainingStage
from peftlab.training.accelerator import check_training_precision, why_slow
from peftlab.training.determinism import determinism
from peftlab.training.evaluation import DivergedError
from peftlab.training.guards import BaseGuard, first_failed


def run_stages(run: RunContext) -> None:
    """Go through all stages.

    Raises:
        UserError: The device does not compute in the recipe's precision, or a checkpoint is of another run.
        RunFailedError: A loss or a score is no number.
    """
    check_training_precision(run.autocast_dtype, device=run.device)
    if (reason := why_slow(run.dtype, run.autocast_dtype, device=run.device)) is not None:
        run.reporter.say(f"warning: {reason}")
    keep_threads_of(run)
    with determinism(run.recipe.training.deterministic, run.device), run.placement:
        _run_stages(run)


def _run_stages(run: RunContext) -> None:
    clock, measures = run.findings.clock, run.recipe.measure
    with clock.phase("load"):
        (loader, wrapped), peak = peak_of(lambda: load(run), device=run.device)
    model, context, initial_hashes = wrapped.model, wrapped.context, wrapped.initial_hashes
    del wrapped  # it would keep the trained model in memory beside the reloaded one
    # transformers reads weights in threads of its own, which the watcher does not see; they are alive now.
    clock.set_peak("load", max(peak, storage_bytes(model_tensors(model))))
    training, saving, evaluation = (
        TrainingStage(run, loader),
        SavingStage(run, loader),
        EvaluationStage(run, loader),
    )
    run.interrupts.check()
    step_flops, matmul_rate = None, None
    if measures:
        with clock.phase("measure"):
            step_flops = count_on_shapes(run, loader)
    digest = BaseGuard(model).digest() if run.placement.shards else None  # while it is whole
    job = training.prepare(model, context, evaluation.validate)
    if measures:
        with clock.phase("measure"):
            job, matmul_rate = measure(run, loader, job, step_flops)
    run.interrupts.check()
    base_guard = BaseGuard(model)
    run.findings.base_sha256 = digest or base_guard.digest()
    check_alike(
        run.world,
        {"weights of the base": run.findings.base_sha256, "new weights": str(run.findings.initial_adapter_sha256)},
        kind=UserError,
    )
    if run.recipe.continues is not None:
        with clock.phase("evaluate"):
            evaluation.evaluate_before(model)
    with clock.phase("train"):
        try:
            training.train(job, context, initial_hashes=initial_hashes, matmul_rate=matmul_rate)
        except DivergedError:
            if training.go_back(job):
                saving.save(model, context)
            raise
    run.findings.guards["base_unchanged"] = first_failed(run.world.gather(base_guard.result(model)))
    with clock.phase("save"):
        _, peak = peak_of(lambda: saving.save(model, context), device=run.device, existing=model_tensors(model))
    clock.set_peak("save", peak)
    trained = saving.describe(model, context)
    del job, model
    gc.collect()
    with clock.phase("verify"):
        model = saving.reload(trained)
    with clock.phase("evaluate"):
        evaluation.evaluate(model)

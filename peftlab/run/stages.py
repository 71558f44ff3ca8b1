"""The stages of a run, in their order: load, measure, train, save, reload, evaluate.

What each stage finds goes into :class:`Findings` at once, so that a run that fails half-way still has an honest
record of the first half. The model that is evaluated is the one that was saved and loaded again.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from peftlab.acceleration.accelerated import accelerated
from peftlab.artifact.load_artifact import load_artifact
from peftlab.artifact.save import loaded_tensors, save_artifact, tensors_to_save
from peftlab.core.callback import CallbackList
from peftlab.core.errors import UserError
from peftlab.core.files import folder_bytes
from peftlab.core.method import MethodContext
from peftlab.core.metric import METRICS
from peftlab.core.record import Calibration, Guard, Memory, Parameters, Throughput
from peftlab.core.reporter import Reporter
from peftlab.core.splits import EncodedSplit, Example
from peftlab.core.task import Task
from peftlab.core.tensors import model_tensors
from peftlab.core.threads import keep_threads
from peftlab.data.notices import describe_notes
from peftlab.estimate.ahead import look_ahead
from peftlab.estimate.flops import count_step_flops, is_cheap_to_count
from peftlab.estimate.target import Target, find_target
from peftlab.measurement.calibration import LogitCollector, calibrate
from peftlab.measurement.memory import peak_of, storage_bytes
from peftlab.measurement.phases import PhaseClock
from peftlab.measurement.roofline import StepFlops, measure_matmul_rate
from peftlab.measurement.throughput import ThroughputMeter
from peftlab.models.base_model import resolve_dtype
from peftlab.preparation.check import CheckedRecipe
from peftlab.preparation.loading import Loader, Wrapped
from peftlab.preparation.rehearsal import rehearse_evaluation, rehearse_flops, rehearse_memory
from peftlab.run.prepared import PREPARED, AskedBase, prepare_splits
from peftlab.run.run_folder import RunFolder
from peftlab.training.accelerator import (
    autocast_dtype,
    build_accelerator,
    check_training_precision,
    start_trackers,
)
from peftlab.training.answers import AnswerWatch
from peftlab.training.checkpoints import Checkpoint, trainable_parameters
from peftlab.training.determinism import determinism
from peftlab.training.evaluation import PredictionWriter, TakesPredictions, TorchInference, compute_logits, evaluate
from peftlab.training.fingerprints import fingerprints
from peftlab.training.guards import (
    BaseGuard,
    GradientGuard,
    check_adapter_changed,
    combined_hash,
    hash_tensors,
)
from peftlab.training.hooks import HookList
from peftlab.training.interrupts import Interrupts
from peftlab.training.loop import Progress, TrainingJob, restore_best, train
from peftlab.training.metrics_log import MetricsLog
from peftlab.training.micro_batches import MicroBatches
from peftlab.training.offload import Placement
from peftlab.training.optimizers import build_optimizer
from peftlab.training.reload_guards import check_effect, check_reload, lent_heads, trained_heads, trains_only_heads

WARMUP_STEPS = 5
"""Steps that are not timed: allocator and caches are cold in them."""
PROBE_EXAMPLES, PROBE_TOKENS = 16, 2048
"""Examples, and their tokens, on which the reloaded model is compared with the trained one; one example at least."""
RELOAD_TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 2e-3}


@dataclass
class Findings:
    """What a run has found so far."""

    clock: PhaseClock
    scores: dict[str, dict[str, float]] = field(default_factory=dict)
    calibration: Calibration | None = None
    guards: dict[str, Guard] = field(default_factory=dict)
    memory: Memory | None = None
    throughput: Throughput | None = None
    parameters: Parameters | None = None
    artifact_bytes: int | None = None
    initial_adapter_sha256: str | None = None
    own_head: str | None = None
    progress: Progress = field(default_factory=Progress)
    micro_batches: MicroBatches = field(default_factory=MicroBatches)
    acceleration: dict[str, int] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)
    resumed: int = 0
    earlier_seconds: float = 0.0


class Run:
    """One run on its way through the stages.

    Args:
        checked: What to run.
        folder: Where it leaves everything.
        findings: Is filled on the way.
        device: Where it runs.
        offline: Allow no network.
        reporter: Tells a person.
        interrupts: Ctrl-C.
        callbacks: Of the program that runs it.
    """

    def __init__(
        self,
        checked: CheckedRecipe,
        folder: RunFolder,
        findings: Findings,
        *,
        device: torch.device,
        offline: bool,
        reporter: Reporter,
        interrupts: Interrupts,
        callbacks: CallbackList,
    ) -> None:
        self.recipe, self.data, self.labels = checked.recipe, checked.data, checked.labels
        self.checked, self.folder, self.findings = checked, folder, findings
        self.device, self.offline, self.reporter, self.interrupts = device, offline, reporter, interrupts
        self.callbacks, self.started = callbacks, time.monotonic()
        self.matmul_rate: float | None = None
        method, model = self.recipe.method, self.recipe.model
        self.dtype = resolve_dtype(model.dtype, device=device, base_is_frozen=not method.trains_base)
        self.autocast = autocast_dtype(self.recipe.training.precision, device=device, weights=self.dtype)
        check_training_precision(self.autocast, device=device)
        self.placement = Placement(model.offload, device=device, folder=folder.path)

    def execute(self) -> None:
        """All stages."""
        self._keep_threads()
        with determinism(self.recipe.training.deterministic, self.device), self.placement:
            self._execute()

    def _execute(self) -> None:
        clock = self.findings.clock
        with clock.phase("load"):
            wrapped, peak = peak_of(self._load, device=self.device)
        model, context = wrapped.model, wrapped.context
        del wrapped  # it would keep the trained model in memory beside the reloaded one
        # transformers reads weights in threads of its own, which the watcher does not see; they are alive now.
        clock.set_peak("load", max(peak, storage_bytes(model_tensors(model))))
        self.interrupts.check()
        if self.recipe.measure:
            with clock.phase("measure"):
                step_flops = self._count_on_shapes()
        job = self._prepare(model, context)
        if self.recipe.measure:
            with clock.phase("measure"):
                job = self._measure(job, step_flops)
        self.interrupts.check()
        base_guard = BaseGuard(model)
        with clock.phase("train"):
            self._train(job, context)
        self.findings.guards["base_unchanged"] = base_guard.result(model)
        with clock.phase("save"):
            _, peak = peak_of(lambda: self._save(model, context), device=self.device, existing=model_tensors(model))
        clock.set_peak("save", peak)
        trained = self._describe(model, context)
        del job, model
        gc.collect()
        with clock.phase("verify"):
            model = self._reload(trained)
        with clock.phase("evaluate"):
            self._evaluate(model)
        if self.recipe.training.checkpoint_every_steps is None:
            self.folder.checkpoints.delete()

    def _load(self) -> Wrapped:
        self.reporter.say(f"loading {self.checked.facts.path}")
        self.loader = Loader(self.checked, dtype=self.dtype, offline=self.offline)
        self.splits, self.plan = self.loader.splits, self.loader.plan
        self.findings.micro_batches = look_ahead(self.checked, self.loader, self._target(), say=self.reporter.say)
        wrapped = self.loader.load_wrapped(self._prepare_with)
        self.splits = self.loader.splits
        findings = self.findings
        findings.notes = {name: dict(split.notes) for name, split in self.splits.items()}
        for line in describe_notes({**self.data.summary.notes, **findings.notes}):
            self.reporter.say(line)
        if wrapped.own_head:
            self.reporter.say(wrapped.own_head)
        findings.own_head = wrapped.own_head or None
        findings.parameters = wrapped.parameters
        findings.initial_adapter_sha256 = combined_hash(wrapped.initial_hashes)
        findings.guards["trainable_parameters"] = wrapped.guard
        self.initial_hashes = wrapped.initial_hashes
        return wrapped

    def _prepare_with(self, base: nn.Module) -> None:
        """Let the task compute what it needs of the untouched base."""
        task = self.recipe.task
        if type(task).prepare is Task.prepare:
            return
        self.reporter.start("preparing", sum(map(len, self.splits.values())))
        asked = AskedBase(
            self.placement.place(base) if self.recipe.model.offload is None else base,
            task,
            self._inference(),
            batches=self.recipe.evaluation_batches,
            pad_token_id=self.loader.tokenizer.pad_token_id,
            after_batch=self.reporter.advance,
        )
        settings = self.recipe.model_dump(mode="json", include={"model", "task", "seed"})
        identity = [self.data.summary.fingerprint, settings]
        try:
            prepared = prepare_splits(task, self.splits, asked, base, self.folder.path / PREPARED, identity)
        finally:
            self.reporter.finish()
        self.loader.splits.update(prepared)

    def _target(self) -> Target:
        """The device that this run has, with what is free of it."""
        found = find_target("cuda" if self.device.type == "cuda" else "cpu")
        if self.device.type != "cuda":
            return found
        free = torch.cuda.mem_get_info(self.device)[0]
        return Target("cuda", min(free, found.memory_bytes or free))

    # --- train --------------------------------------------------------------------------------------------------

    def _prepare(self, model: nn.Module, context: MethodContext) -> TrainingJob:
        """Put model and optimizer into accelerate's hands."""
        recipe = self.recipe
        training, metric = recipe.training, recipe.evaluation.metric
        assert training.learning_rate is not None  # noqa: S101 - resolve_recipe has filled it in
        accelerator = build_accelerator(
            computation=self.autocast, tracking=list(recipe.tracking), folder=self.folder.path, device=self.device
        )
        hooks = HookList(recipe.training_hooks())
        optimizer = build_optimizer(self.placement.place(model), training, training.learning_rate, hooks=hooks)
        prepared, optimizer = accelerator.prepare(model, optimizer, device_placement=[False, True])
        has_validation = "validation" in self.splits
        return TrainingJob(
            model=prepared,
            optimizer=optimizer,
            accelerator=accelerator,
            hooks=hooks,
            task=hooks.training_task(recipe.task),
            split=self.splits["train"],
            plan=self.plan,
            config=training,
            evaluation=recipe.evaluation,
            learning_rate=training.learning_rate,
            metric=metric if has_validation else None,
            higher_is_better=metric is None or METRICS[metric].higher_is_better,
            pad_token_id=self.loader.tokenizer.pad_token_id,
            evaluate=self._validation_of(prepared) if has_validation else None,
            checkpoints=self.folder.checkpoints,
            log=MetricsLog(self.folder.metrics),
            meter=self._new_meter(context.total_steps, None),
            interrupts=self.interrupts,
            on_step=self._on_step,
            extra_state=self._extra_state,
            gradients=GradientGuard(model),
            micro_batches=self.findings.micro_batches,
            callbacks=self.callbacks,
        )

    def _count_on_shapes(self) -> StepFlops | None:
        """The FLOPs of the steps, where to count them with real numbers would take memory."""
        # Of FLOPs those count that are not done twice; without checkpointing an offloaded base would not fit.
        if self.recipe.model.offload is not None or is_cheap_to_count(self.checked, self.loader):
            return None
        # Before accelerate is set up for the run: shapes have an accelerator of their own.
        return count_step_flops(self.checked, self.loader, self._target(), say=self.reporter.say)

    def _measure(self, job: TrainingJob, step_flops: StepFlops | None) -> TrainingJob:
        """What can be known before training; returns the job with a meter that knows its FLOPs."""
        self.reporter.say("measuring memory and speed before training")
        findings = self.findings
        findings.memory = rehearse_memory(job)
        findings.clock.set_peak("train", findings.memory.peak_bytes)
        largest = max((split for name, split in self.splits.items() if name != "train"), key=len, default=None)
        if largest is not None:
            batches = self.recipe.evaluation_batches(self.recipe.task.lengths(largest.examples))
            peak = rehearse_evaluation(job, largest, batches, self._inference(self.recipe.evaluation.metric))
            findings.clock.set_peak("evaluate", peak)
        self.matmul_rate = measure_matmul_rate(self.device, self.autocast or self.dtype)
        if self.recipe.model.offload is None and is_cheap_to_count(self.checked, self.loader):
            step_flops = rehearse_flops(job)
        return replace(job, meter=self._new_meter(job.plan.total, step_flops))

    def _new_meter(self, total_steps: int, step_flops: StepFlops | None) -> ThroughputMeter:
        return ThroughputMeter(min(WARMUP_STEPS, total_steps // 2), device=self.device, step_flops=step_flops)

    def _train(self, job: TrainingJob, context: MethodContext) -> None:
        findings = self.findings
        checkpoint = self._read_checkpoint()
        start_trackers(job.accelerator, name=self.recipe.name, recipe=self.recipe.model_dump(mode="json"))
        self._steps_shown = checkpoint.state["progress"]["step"] if checkpoint else 0
        self.reporter.start("training", self.plan.total - self._steps_shown)
        try:
            with accelerated(job.model) as findings.acceleration:
                findings.progress = train(job, checkpoint)
        finally:
            self.reporter.finish()
            findings.throughput = job.meter.summary(matmul_flops_per_second=self.matmul_rate)
            findings.guards["gradients"] = job.gradients.result()
        job.accelerator.end_training()
        self._tell_ties(findings.progress)
        model = job.accelerator.unwrap_model(job.model)
        findings.guards.update(job.hooks.guards(model, context))  # of what training did, best epoch or not
        restore_best(job, findings.progress)
        findings.guards["loss_finite"] = Guard.check(True, f"in all {findings.progress.step} steps")
        trained = trainable_parameters(model)
        findings.guards["adapter_changed"] = check_adapter_changed(
            self.initial_hashes,
            hash_tensors(trained),
            steps=findings.progress.step,
            may_end_unchanged={name for name, tensor in trained.items() if job.hooks.may_end_unchanged(name, tensor)},
        )

    def _tell_ties(self, progress: Progress) -> None:
        tied, metric = progress.tied_steps, self.recipe.evaluation.metric
        if len(tied) > 1:
            score = "not defined" if progress.best_score is None else f"{progress.best_score:.4g}"
            steps = ", ".join(map(str, tied[:12])) + (", …" if len(tied) > 12 else "")
            self.reporter.say(
                f"{metric} is {score} at the steps {steps} alike; step {progress.best_step} is kept"
                + ("" if progress.best_loss is None else ", whose validation loss is the least of them")
            )

    def _read_checkpoint(self) -> Checkpoint | None:
        """The latest checkpoint, if it is of this very run."""
        checkpoint = self.folder.checkpoints.read_latest()
        if checkpoint is None:
            return None
        for key, now in self._identity().items():
            if checkpoint.state.get(key, now) != now:  # checkpoints of earlier versions lack some keys
                raise UserError(
                    f"the run cannot be resumed here: its {key} is another one",
                    where=str(self.folder.path),
                    hint="The data, the base model or a library has changed. Start the run in a new folder.",
                )
        self.findings.resumed = checkpoint.state["resumed"] + 1
        self.findings.earlier_seconds = checkpoint.state["seconds"]
        self.findings.clock.restore(checkpoint.state["phases"])
        self.reporter.say(f"resuming after step {checkpoint.state['progress']['step']}")
        return checkpoint

    def _keep_threads(self) -> None:
        """Go on with as many threads as the run began with: another number gives other last bits."""
        begun = self.folder.checkpoints.latest_state()
        count, now = begun.get("threads"), torch.get_num_threads()
        if isinstance(count, int) and count > 0 and count != now:
            self.reporter.say(
                f"computing with {count} threads as before, not with {now}: the run ends with the same scores so"
            )
            keep_threads(count, "as the run began")
        place = begun.get("device", self.device.type)
        if place != self.device.type:
            self.reporter.say(f"the run began on {place} and goes on on {self.device.type}: last digits may differ")

    def _identity(self) -> dict[str, Any]:
        return {
            "initial_adapter_sha256": self.findings.initial_adapter_sha256,
            "data_fingerprint": self.data.summary.fingerprint,
            "labels": list(self.labels),
            "learned": dict(self.recipe.task.learned),
        }

    def _extra_state(self) -> dict[str, Any]:
        return {
            **self._identity(),
            "resumed": self.findings.resumed,
            "seconds": self.findings.earlier_seconds + time.monotonic() - self.started,
            "phases": self.findings.clock.state_dict(),
            "threads": torch.get_num_threads(),
            "device": self.device.type,
        }

    def _on_step(self, step: int, loss: float) -> None:
        self.reporter.advance(step - self._steps_shown, f"loss {loss:.3f}")
        self._steps_shown = step

    # --- save, reload, evaluate -----------------------------------------------------------------------------------

    def _save(self, model: nn.Module, context: MethodContext) -> None:
        artifact = save_artifact(
            model,
            self.recipe.method,
            folder=self.folder.path,
            tokenizer=self.loader.tokenizer,
            context=context,
            base_path=self.loader.source,
        )
        self.findings.artifact_bytes = folder_bytes(artifact)

    def _probe(self, model: nn.Module) -> Tensor:
        split = self.splits.get("validation", self.splits["train"])
        examples = _first_tokens(self.recipe.task, split.examples[:PROBE_EXAMPLES])
        with torch.random.fork_rng(devices=[]):  # what a batch draws, such as masks, must be the same both times
            torch.manual_seed(0)
            batch = self.recipe.task.collate(examples, self.loader.tokenizer.pad_token_id)
        model.eval()
        with torch.inference_mode():
            return compute_logits(
                model, self.recipe.task, batch, device=self.device, autocast_dtype=self.autocast
            ).cpu()

    def _describe(self, model: nn.Module, context: MethodContext) -> _Trained:
        """What the reloaded model is compared with."""
        method, heads = self.recipe.method, context.head_modules
        return _Trained(
            logits=self._probe(model),
            tensors=fingerprints(tensors_to_save(model, method)),
            heads=trained_heads(model, heads),
            only_heads=trains_only_heads(model, heads),
        )

    def _reload(self, trained: _Trained) -> nn.Module:
        """Load what was saved as a stranger would: from the files alone."""
        guards, without = self.findings.guards, list[Tensor]()
        guards["adapter_has_effect"] = self._effect_is_told(trained)

        def load_base() -> Any:
            base = self.loader.load_base().model
            if guards["adapter_has_effect"].status == "passed":
                with lent_heads(self.placement.place(base), trained.heads):
                    without.append(self._probe(base))
            return base

        model = load_artifact(load_base, self.folder.path)
        loaded = fingerprints(loaded_tensors(model, self.recipe.method))  # before an adapter's layers are offloaded too
        model = self.placement.place(model)
        after = self._probe(model)
        guards["reload_agrees"] = check_reload(
            before=trained.logits,
            after=after,
            saved=trained.tensors,
            loaded=loaded,
            tolerance=RELOAD_TOLERANCE[self.dtype if self.autocast is None else self.autocast],
        )
        if without:
            guards["adapter_has_effect"] = check_effect(without[0], after)
        return model

    def _effect_is_told(self, trained: _Trained) -> Guard:
        """Whether the base without the adapter can be compared with the reloaded model."""
        if self.recipe.method.trains_base:
            return Guard.not_applicable("the whole model was saved, and needs no base")
        if trained.only_heads:
            return Guard.not_applicable("only the head trains")
        if self.recipe.model.offload is not None:
            return Guard.not_applicable("the base is offloaded")
        if self.findings.guards["adapter_changed"].status != "passed":
            return Guard.not_applicable("the adapter has not changed in training")
        return Guard.check(True, "")

    def _evaluate(self, model: nn.Module) -> None:
        kept: dict[str, LogitCollector] = {}
        with PredictionWriter(self.folder.predictions) as file:
            writer = AnswerWatch(self.recipe.task, file)
            for name, split in self.splits.items():
                if name == "train":
                    continue
                if self.recipe.task.has_probabilities and name in ("validation", "test"):
                    kept[name] = LogitCollector()
                self.findings.scores[name] = self._score(model, split, writer, keep_logits=kept.get(name))
        if self.findings.guards["adapter_changed"].status != "failed":
            self.findings.guards["answers_vary"] = writer.result(steps=self.findings.progress.step)
        self.findings.calibration = calibrate(self.recipe.task, kept, self.labels)

    def _validation_of(self, model: nn.Module) -> Callable[[], dict[str, float]]:
        def scores() -> dict[str, float]:
            with self.findings.clock.phase("evaluate"):
                return self._score(model, self.splits["validation"], None, metric=self.recipe.evaluation.metric)

        return scores

    def _score(
        self,
        model: nn.Module,
        split: EncodedSplit,
        writer: TakesPredictions | None,
        *,
        metric: str | None = None,
        keep_logits: LogitCollector | None = None,
    ) -> dict[str, float]:
        self.reporter.start(f"evaluating {split.name}", len(split))

        def after_batch(examples: int) -> None:
            self.reporter.advance(examples)
            self.interrupts.check()

        try:
            return evaluate(
                model,
                self.recipe.task,
                split,
                self.recipe.evaluation_batches(self.recipe.task.lengths(split.examples)),
                pad_token_id=self.loader.tokenizer.pad_token_id,
                inference=self._inference(metric),
                writer=writer,
                after_batch=after_batch,
                keep_logits=keep_logits,
                scorer=self.recipe.scorer(self.labels),
                with_loss=metric is not None,  # while training: it parts epochs of one score
            )
        finally:
            self.reporter.finish()

    def _inference(self, metric: str | None = None) -> TorchInference:
        return TorchInference(
            tokenizer=self.loader.tokenizer,
            labels=self.labels,
            metric=metric,
            virtual_tokens=self.recipe.method.extra_positions(),
            device=self.device,
            autocast_dtype=self.autocast,
        )


@dataclass(frozen=True)
class _Trained:
    """What is kept of the trained model when it has been saved.

    Args:
        logits: Of the probe batch.
        tensors: Fingerprints of what had to be saved.
        heads: The heads' parameters.
        only_heads: Whether nothing else trains.
    """

    logits: Tensor
    tensors: Mapping[str, str]
    heads: Mapping[str, Tensor]
    only_heads: bool


def _first_tokens(task: Task, examples: Sequence[Example]) -> Sequence[Example]:
    """The first examples, of so many tokens with padding; logits over a whole vocabulary take room."""
    longest = max(task.lengths(examples))
    return examples[: max(1, PROBE_TOKENS // longest)]

"""Train: model and optimizer in accelerate's hands, the loop, and the guards of what training did."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial

import torch
from torch import nn

from peftlab.acceleration.accelerated import accelerated
from peftlab.acceleration.compiled import compiled_blocks
from peftlab.core.errors import DataError, UnsupportedError
from peftlab.core.generators import kept_generators
from peftlab.core.hooks import TrainingHooks
from peftlab.core.in_mode import in_mode
from peftlab.core.method import MethodContext
from peftlab.core.metric import METRICS
from peftlab.core.record import Guard
from peftlab.core.reporter import progress_bar
from peftlab.core.task import Policy, Task
from peftlab.core.task_objective import TaskObjective
from peftlab.core.tensors import model_tensors
from peftlab.measurement.memory import peak_of
from peftlab.preparation.loading import Loader
from peftlab.run.early_warnings import CourseWatch, warnings_at_start
from peftlab.run.head_alone import head_alone
from peftlab.run.measuring_stage import new_meter
from peftlab.run.processes import check_alike
from peftlab.run.remembering import remember
from peftlab.run.resuming import acceleration_of, latest_checkpoint, read_checkpoint, state_of
from peftlab.run.run_context import RunContext
from peftlab.training.accelerator import build_accelerator, end_trackers, start_trackers
from peftlab.training.batches_ahead import BatchesAhead, collates_ahead
from peftlab.training.best_state import restore_best, restore_best_before
from peftlab.training.checkpoints import trainable_parameters
from peftlab.training.class_weights import weighted_task
from peftlab.training.evaluation import DivergedError
from peftlab.training.graphs import build_graphs
from peftlab.training.guards import GradientGuard, check_adapter_changed, combined_hash, hash_tensors
from peftlab.training.hooks import HookList
from peftlab.training.job import TrainingJob
from peftlab.training.loop import train
from peftlab.training.metrics_log import MetricsLog
from peftlab.training.optimizer_choice import optimizer_class
from peftlab.training.optimizers import build_optimizer
from peftlab.training.progress import Progress
from peftlab.training.roll_outs import RollOuts, rolls_out
from peftlab.training.rows_ahead import EncodedRows
from peftlab.training.text_pairs import EncodedPairs, Pair


class TrainingStage:
    """Training of a run; it holds no model.

    Args:
        run: What all stages know.
        loader: With the data.
    """

    def __init__(self, run: RunContext, loader: Loader) -> None:
        self._run, self._loader = run, loader
        self._steps_shown = 0
        self._why_no_graphs = ""
        rows = run.checked.data.splits
        self._course = CourseWatch(run.recipe, rows.get("validation"), run.reporter.say)

    def prepare(
        self, model: nn.Module, context: MethodContext, validate: Callable[[nn.Module], dict[str, float]]
    ) -> TrainingJob:
        """Put model and optimizer into accelerate's hands.

        Args:
            model: Wrapped by its method.
            context: What the method was told.
            validate: Scores a model on the validation split.
        """
        run, loader, recipe = self._run, self._loader, self._run.recipe
        training, metric = recipe.training, recipe.evaluation.metric
        assert training.learning_rate is not None  # noqa: S101 - resolve_recipe has filled it in
        accelerator = build_accelerator(
            computation=run.autocast_dtype, tracking=list(recipe.tracking), folder=run.folder.path, device=run.device
        )
        placed = run.placement.place(model)
        own = recipe.training_hooks()
        hooks = self._begun(own, placed, context)
        task = hooks.training_task(self._weighted_task())
        if hooks.need_unlabeled:
            hooks.give_pairs(EncodedPairs(task, self._pairs(), loader.tokenizer.pad_token_id, run.device))
        remember(run, loader, hooks, placed)
        optimizer = build_optimizer(placed, training, training.learning_rate, hooks=hooks)
        if optimizer_class(training.optimizer).averages:
            hooks.follow(optimizer)
        # Not as accelerate prepares a model for several processes: the loop adds up the gradients itself.
        prepared = accelerator.prepare_model(model, device_placement=False, evaluation_mode=run.world.size > 1)
        optimizer = accelerator.prepare_optimizer(optimizer, device_placement=True)
        has_validation = "validation" in loader.splits
        return TrainingJob(
            model=prepared,
            optimizer=optimizer,
            accelerator=accelerator,
            hooks=hooks,
            task=task,
            split=loader.splits["train"],
            plan=loader.plan,
            config=training,
            evaluation=recipe.evaluation,
            learning_rate=training.learning_rate,
            metric=metric if has_validation else None,
            higher_is_better=metric is None or METRICS[metric].higher_is_better,
            pad_token_id=loader.tokenizer.pad_token_id,
            evaluate=(lambda: self._validated(prepared, validate)) if has_validation else None,
            checkpoints=run.folder.checkpoints,
            log=MetricsLog(run.folder.metrics),
            meter=new_meter(context.total_steps, None, run.device),
            interrupts=run.interrupts,
            on_step=self._on_step,
            extra_state=lambda: state_of(run),
            gradients=GradientGuard(model),
            micro_batches=run.findings.micro_batches,
            callbacks=run.callbacks,
            world=run.world,
            roll_outs=self._roll_outs(hooks.training_task(recipe.task)),
        )

    def _begun(self, own: Sequence[TrainingHooks], model: nn.Module, context: MethodContext) -> HookList:
        """The hooks, which have begun; where they look at rows for that, it is a phase of its own."""
        run, rows = self._run, self._rows(own)
        if rows is None:
            return HookList.begin(own, model, context)
        checkpoint = latest_checkpoint(run)
        begin = partial(HookList.begin, own, model, context, rows, None if checkpoint is None else checkpoint.hooks)
        with run.findings.clock.phase("start"):
            hooks, peak = peak_of(begin, device=run.device, existing=model_tensors(model))
        run.findings.clock.set_peak("start", peak)
        return hooks

    def _rows(self, hooks: Sequence[TrainingHooks]) -> EncodedRows | None:
        """Rows for hooks that look at them first; None where none does, or the weights are an earlier run's."""
        run, loader, settings = self._run, self._loader, self._run.recipe.continues
        if not any(hook.needs_rows for hook in hooks) or (settings is not None and settings.weights):
            return None
        if run.world.size > 1:
            raise UnsupportedError(
                f"{run.recipe.method.registered_name} looks at training rows first, and that is done in one process",
                where="method.type",
                hint="Leave --processes out, or choose lora.",
            )
        return EncodedRows(
            run.recipe.task,
            loader.splits["train"].examples,
            loader.tokenizer.pad_token_id,
            run.device,
            seed=run.recipe.seed,
            at_once=self._at_once(),
            autocast_dtype=run.autocast_dtype,
        )

    def _at_once(self) -> int:
        """The most examples of a batch or micro-batch, were all as long as the longest."""
        training, examples = self._run.recipe.training, self._loader.splits["train"].examples
        limits = [self._run.findings.micro_batches.size or training.batch_size or len(examples)]
        if training.max_tokens_per_batch is not None:
            longest = max(self._run.recipe.task.lengths(examples))
            limits.append(training.max_tokens_per_batch // longest)
        return max(1, min(limits))

    def _weighted_task(self) -> Task:
        """The recipe's task, its classes weighed as the recipe says."""
        recipe, loader = self._run.recipe, self._loader
        wanted, examples = recipe.training.class_weights, loader.splits["train"].examples
        return weighted_task(recipe.task, wanted, examples, loader.labels)

    def _with_graphs(self, job: TrainingJob) -> TrainingJob:
        """The job with graphs of its passes, where the recipe wants them and they can be had."""
        wanted = job.config.cuda_graphs
        if wanted == "off" or (wanted == "auto" and self._run.device.type != "cuda"):
            return job
        graphs = build_graphs(job)
        if isinstance(graphs, str):
            self._why_no_graphs = graphs
            return job
        return replace(job, graphs=graphs)

    def _note_graphs(self, job: TrainingJob) -> None:
        if self._why_no_graphs:
            self._run.findings.acceleration["cuda_graphs"] = self._why_no_graphs
        elif job.graphs is not None:
            self._run.findings.acceleration["cuda_graphs"] = job.graphs.summary()
            job.graphs.release()

    def _roll_outs(self, task: Task) -> RollOuts | None:
        """What the task makes between steps, with a copy of the base beside the model where it asks one."""
        if not rolls_out(task):
            return None
        run, loader = self._run, self._loader
        reference: nn.Module | None = None
        if task.needs_reference:
            with kept_generators():
                reference = run.placement.place(loader.load_base().model)
            reference.requires_grad_(False).train(False)
        inference = run.inference(loader.tokenizer)
        return RollOuts(task, loader.splits["train"], inference, loader.tokenizer.pad_token_id, reference)

    def _guards_at_start(self, job: TrainingJob) -> Mapping[str, Guard]:
        """The task's guards of the model as its method has wrapped it; a resumed run's checkpoint is not read yet."""
        run, task = self._run, self._run.recipe.task
        if type(task).guards_at_start is Task.guards_at_start:
            return {}
        inference = run.inference(self._loader.tokenizer)
        batch = job.plan.longest_step(job.task.lengths(job.split.examples)).batches[-1]
        examples = [job.split.examples[position] for position in batch]
        policy = Policy(job.model, None, inference, job.pad_token_id)
        job.model.eval()
        try:
            with torch.inference_mode():
                return task.guards_at_start(policy, examples, starts_as_base=run.recipe.method.starts_as_base)
        finally:
            job.model.train()

    def _validated(self, model: nn.Module, validate: Callable[[nn.Module], dict[str, float]]) -> dict[str, float]:
        """The scores of the model with the head that the task would leave."""
        self._fit_head(model)
        scores = validate(model)
        self._course.look_at_scores(scores)
        return scores

    def _fit_head(self, model: nn.Module) -> None:
        """Let the task compute what of the head is not trained."""
        run, task, split = self._run, self._run.recipe.task, self._loader.splits["train"]
        if type(task).fit_head is TaskObjective.fit_head:
            return
        policy = Policy(model, None, run.inference(self._loader.tokenizer), self._loader.tokenizer.pad_token_id)
        with in_mode(model), torch.inference_mode():
            task.fit_head(policy, split.examples)

    def _tell_course(self, job: TrainingJob) -> None:
        """What the task has to say of how training went."""
        notices = {**self._run.recipe.task.course_notices(job.log.read()), **job.hooks.notices()}
        for notice in notices.values():
            if isinstance(notice, str):
                self._run.reporter.say(notice)
        self._run.findings.notes.update({"training": dict(notices)} if notices else {})

    def _made_ahead(self, job: TrainingJob) -> TrainingJob:
        """The job with its batches made one step ahead, where a card computes and the task allows it."""
        if self._run.device.type != "cuda" or not collates_ahead(job.task):
            return job
        return replace(job, ahead=BatchesAhead(pin=True))

    def train(
        self,
        job: TrainingJob,
        context: MethodContext,
        *,
        initial_hashes: Mapping[str, str],
        matmul_rate: float | None,
    ) -> None:
        """Train, from the latest checkpoint where there is one, and keep the best state.

        Args:
            job: From :meth:`prepare`.
            context: What the method was told.
            initial_hashes: SHA-256 of every trainable tensor at the start.
            matmul_rate: FLOPs of a second of matrix products on this device; None: not measured.
        """
        run, findings = self._run, self._run.findings
        job = self._made_ahead(self._with_graphs(job))
        checkpoint = read_checkpoint(run)
        findings.guards.update(self._guards_at_start(job))
        values = run.recipe.model_dump(mode="json")
        start_trackers(job.accelerator, name=run.recipe.name, recipe=values, offline=run.offline)
        self._steps_shown = checkpoint.state["progress"]["step"] if checkpoint else 0
        rows = run.checked.data.splits
        for warning in warnings_at_start(run.recipe, rows, self._loader.splits["train"], self._loader.labels):
            run.reporter.say(f"warning: {warning}")
        try:
            with head_alone(run, self._loader, job, context) as (own, told), _faster(own) as findings.acceleration:
                # Some parts are known with the first batch only, and a resumed run may have none left.
                earlier = acceleration_of(checkpoint)
                findings.acceleration.update(earlier | findings.acceleration | told | run.placement.told())
                with progress_bar(run.reporter, "training", job.plan.total - self._steps_shown):
                    findings.progress = train(own, checkpoint)
        except DivergedError as error:
            raise _with_best_state(error, job) from None
        finally:
            if job.ahead is not None:
                job.ahead.close()
            self._note_graphs(job)
            findings.throughput = job.meter.summary(matmul_flops_per_second=matmul_rate)
            findings.guards["gradients"] = job.gradients.result()
        end_trackers(job.accelerator)
        self._tell_ties(findings.progress)
        model = job.bare_model
        findings.guards.update(job.hooks.guards(model, context))  # of what training did, best epoch or not
        restore_best(job, findings.progress)
        self._tell_course(job)
        self._fit_head(model)
        findings.guards["loss_finite"] = Guard.check(True, f"in all {findings.progress.step} steps")
        trained = trainable_parameters(model)
        hashes = hash_tensors(trained)
        check_alike(run.world, {"trained weights": combined_hash(hashes)})
        findings.guards["adapter_changed"] = check_adapter_changed(
            initial_hashes,
            hashes,
            steps=findings.progress.step,
            may_end_unchanged={name for name, tensor in trained.items() if job.hooks.may_end_unchanged(name, tensor)},
        )

    def _pairs(self) -> list[Pair]:
        pairs = self._loader.pairs
        if not pairs:
            raise DataError(
                "no text without a label has a changed copy: nothing in them changes, or no copy was kept",
                where="data.augmentation",
                hint="Raise the probability of the augmentations, or choose others.",
            )
        return pairs

    def go_back(self, job: TrainingJob) -> bool:
        """After a divergence: put the best state before into the model; whether there is one."""
        progress = restore_best_before(job)
        if progress is None:
            return False
        self._run.findings.progress = progress
        self._fit_head(job.bare_model)
        self._run.reporter.say(f"the best state before, that of step {progress.step}, is kept in the run's folder")
        return True

    def _on_step(self, step: int, loss: float, rate: float) -> None:
        self._run.reporter.advance(step - self._steps_shown, f"loss {loss:.3f}, rate {rate:.2g}")
        self._course.look_at_loss(step, loss)
        self._steps_shown = step

    def _tell_ties(self, progress: Progress) -> None:
        tied, metric = progress.tied_steps, self._run.recipe.evaluation.metric
        if len(tied) > 1:
            score = "not defined" if progress.best_score is None else f"{progress.best_score:.4g}"
            steps = ", ".join(map(str, tied[:12])) + (", …" if len(tied) > 12 else "")
            self._run.reporter.say(
                f"{metric} is {score} at the steps {steps} alike; step {progress.best_step} is kept"
                + ("" if progress.best_loss is None else ", whose validation loss is the least of them")
            )


def _with_best_state(error: DivergedError, job: TrainingJob) -> DivergedError:
    """The same error, which says where the best state before it is kept."""
    best = job.checkpoints.best()
    if best is None:
        return error
    path, step = best
    hint = f"The parameters of the best evaluation so far, of step {step}, are kept in {path}."
    return DivergedError(error.message, where=error.where, hint=f"{error.hint} {hint}" if error.hint else hint)


def _faster(job: TrainingJob) -> AbstractContextManager[dict[str, int | str]]:
    """The model as its steps compute."""
    return accelerated(job.model) if job.config.compile == "off" else compiled_blocks(job.model)

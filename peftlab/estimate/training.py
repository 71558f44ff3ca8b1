"""The memory of training from shapes: the run's own rehearsal, on a model without weights.

Model, method, loss, clipping and optimizer are the real code, run once under torch's ``FakeTensorMode``; the watcher of
live tensors that measures a run on CPU counts the fake storages as they come and go.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily

from peftlab.acceleration.accelerated import accelerated
from peftlab.acceleration.device import Card, as_if_on
from peftlab.acceleration.masks import drop_full_mask
from peftlab.core.errors import UnsupportedError
from peftlab.core.method import MethodContext
from peftlab.core.record import Memory
from peftlab.core.splits import EncodedSplit
from peftlab.core.task import Task
from peftlab.core.tensors import model_tensors
from peftlab.estimate.as_cuda import as_on_cuda
from peftlab.estimate.bare_job import MANY_STEPS, Batch, bare_job
from peftlab.estimate.fakes import (
    drop_between_forwards,
    fake_quantized_layers,
    give_fake_tensors,
    one_text_a_row,
)
from peftlab.estimate.grouped import rows_by_one_expert
from peftlab.estimate.start import NEEDS_VALUES, peak_at_start
from peftlab.estimate.target import Target
from peftlab.estimate.task import TaskOnShapes
from peftlab.measurement.caching_allocator import CachingAllocator
from peftlab.measurement.memory import by_category, measure_training_memory, storage_bytes
from peftlab.measurement.roofline import StepFlops
from peftlab.models.base_model import checkpoint_activations, resolve_dtype
from peftlab.models.skeleton import build_skeleton
from peftlab.preparation.check import CheckedModel
from peftlab.preparation.rehearsal import rehearse_evaluation, rehearse_flops
from peftlab.training.accelerator import autocast_dtype, build_shapes_accelerator
from peftlab.training.evaluation import TorchInference
from peftlab.training.graphs import why_not
from peftlab.training.hooks import HookList
from peftlab.training.job import TrainingJob
from peftlab.training.loop import optimizer_step
from peftlab.training.offload import frozen_layers
from peftlab.training.optimizers import build_optimizer
from peftlab.training.sharding import Sharding, mesh_of_all
from peftlab.training.steps import Step
from peftlab.training.text_pairs import Pair
from peftlab.training.world import World, WorldOnPaper


@dataclass(frozen=True)
class PhaseMemory:
    """What was found.

    Args:
        memory: Of training, by category; of evaluation, where no step is taken.
        phases: The peak of each phase.
        loss_terms: Of the largest batch: examples, or labelled tokens.
        workspace_bytes: Of training's peak, what libraries take beside tensors.
    """

    memory: Memory
    phases: Mapping[str, int]
    loss_terms: int
    workspace_bytes: int


class ShapesOfRecipe:
    """A recipe's model as shapes; its memory can be asked for many batches.

    Args:
        checked: The recipe and what is known of its model.
        labels: Of the task.
        target: The device that it is meant for.

    Raises:
        UserError: The model or the method cannot be built.
    """

    def __init__(self, checked: CheckedModel, labels: tuple[str, ...], target: Target) -> None:
        self._recipe, self._labels, self._target = checked.recipe, labels, target
        recipe, method = checked.recipe, checked.recipe.method
        self._is_sharded = recipe.training.sharding is not None and target.processes > 1
        self._trains, self._trains_base = recipe.training.max_steps != 0, method.trains_base
        self._world = World()
        if target.processes > 1:
            self._world = WorldOnPaper(target.processes, keeps_pace=self._is_sharded)
        self._dtype = resolve_dtype(recipe.model.dtype, device=target.device, base_is_frozen=not method.trains_base)
        self._card = Card(target.name, target.memory_bytes)
        self._autocast = autocast_dtype(recipe.training.precision, device=target.device, weights=self._dtype)
        dropout = recipe.model.dropout
        if dropout is None and not method.trains_base:
            dropout = 0.0
        build = partial(
            build_skeleton,
            checked.facts,
            recipe.model,
            recipe.task.head(labels),
            dtype=self._dtype,
            dropout=dropout,
            rows_apart=not recipe.method.trains_base,
        )
        base = build()
        if target.attention_is_fused:
            _drop_attention_dropout(base.model)
        context = MethodContext(
            peft_task_type=recipe.task.peft_task() or None,
            total_steps=MANY_STEPS,
            seed=recipe.seed,
            head_modules=base.head_modules,
            family=checked.facts.family,
        )
        self._context = context
        # A method that begins with the base in full has it in the CPU's memory, beside the quantised one.
        in_full = method.needs_original and target.name == "cpu"
        self._original_bytes = sum(tensor.nbytes for tensor in base.model.parameters()) if in_full else 0
        self._mode = FakeTensorMode(allow_non_fake_inputs=True)
        with self._mode:
            fake_quantized_layers(base.model)
        self._model: nn.Module = method.apply(base.model, context)
        if recipe.training.gradient_checkpointing:
            checkpoint_activations(base.model, recipe.model)
        self._model.register_forward_pre_hook(drop_full_mask, with_kwargs=True)
        with self._mode:
            give_fake_tensors(self._model)
            self._loaded_bytes = storage_bytes(model_tensors(self._model))
            if self._is_sharded:
                with unset_fake_temporarily():
                    mesh = mesh_of_all(torch.device("cpu"))
                Sharding(mesh, method.trains_base).shard(self._model, torch.device("cpu"))
            if recipe.model.offload is not None:
                drop_between_forwards(
                    list(frozen_layers(self._model).values()),
                    one_ahead=recipe.model.offload == "cpu" and self._target.name != "cpu",
                )
        task = recipe.task
        self._reference: nn.Module | None = None
        if task.needs_reference or task.compares_with_base:
            self._reference = build().model
            with self._mode:
                fake_quantized_layers(self._reference)
                give_fake_tensors(self._reference)

    def memory(self, batch: Batch) -> PhaseMemory:
        """The peaks for one batch.

        Raises:
            UnsupportedError: Model or task decide by values what they compute.
        """
        task = self._task_on_shapes()
        borders = contextlib.nullcontext() if "position_ids" in batch.examples[0] else one_text_a_row()
        with self._mode, borders, rows_by_one_expert(), _refused_where_values_are_needed():
            started = self._start(batch)
            job = replace(self._job(batch, cast("Task", task)), world=self._world)
            step = Step(1, 0, [list(positions) for positions in batch.step], ends_epoch=False)
            trained = self._training(job, step) if self._trains else None
            inference = TorchInference(tokenizer=None, labels=self._labels, device=torch.device("cpu"))
            evaluated = rehearse_evaluation(job, job.split, [self._evaluated(batch)], inference)
            model_bytes = storage_bytes(model_tensors(self._model))
            beside = 0 if self._reference is None else storage_bytes(model_tensors(self._reference))
            graphs = self._gradients_of_graphs(job)
            models = [self._model, *([] if self._reference is None else [self._reference])]
            memory = trained or by_category(models, evaluated + beside)
        workspace = self._target.workspace_bytes * (1 if graphs is None else 2)  # a recording has one of its own
        stays = graphs or 0
        memory = memory.model_copy(
            update={
                "peak_bytes": memory.peak_bytes + workspace + stays,
                "gradients_bytes": memory.gradients_bytes + stays,
            }
        )
        phases = {
            # What is offloaded is in the CPU's memory first.
            "load": (self._loaded_bytes if self._target.name == "cpu" else model_bytes) + self._while_quantized(),
            **({} if started is None else {"start": started + self._target.workspace_bytes}),
            **({"train": memory.peak_bytes} if self._trains else {}),
            "evaluate": evaluated + beside + workspace,
            # What trains in parts the first process gathers, on CPU.
            "save": model_bytes
            + beside * job.task.needs_reference
            + self._loaded_bytes * (self._is_sharded and self._trains_base),
        }
        return PhaseMemory(memory, phases, loss_terms=task.most_terms, workspace_bytes=workspace)

    def step_flops(self, split: EncodedSplit, pairs: Sequence[Pair] = ()) -> StepFlops:
        """The FLOPs of training steps on texts of a split.

        Args:
            split: Of the run.
            pairs: Texts without labels and their copies.

        Raises:
            UnsupportedError: Model or task decide by values what they compute.
        """
        task = self._task_on_shapes()
        borders = contextlib.nullcontext() if "position_ids" in split.examples[0] else one_text_a_row()
        with self._mode, borders, rows_by_one_expert(), _refused_where_values_are_needed():
            job = replace(self._job(Batch(split.examples[:1], [1], [[0]], pairs), cast("Task", task)), split=split)
            return rehearse_flops(job)

    def _training(self, job: TrainingJob, step: Step) -> Memory:
        """The memory of a step."""
        optimizer = job.optimizer.optimizer
        self._make_state(optimizer, job.hooks)
        job.model.train()
        texts = job.hooks.pairs_of("longest")
        with self._kernels(), as_if_on(self._card), accelerated(self._model), texts:
            return measure_training_memory(
                lambda: optimizer_step(job, step),
                model=self._model,
                optimizer=optimizer,
                device=torch.device("cpu"),
                steps=1,
                existing=job.hooks.state(self._model).values(),
                reference=self._reference if job.task.needs_reference else None,
                allocator=self._allocator(),
            )

    def _evaluated(self, batch: Batch) -> list[int]:
        """The examples of a batch of evaluation, which is not cut as those of training are."""
        training = self._recipe.training
        size = self._recipe.evaluation.batch_size
        if size is None and isinstance(training.micro_batch_size, int | str):
            size = training.batch_size
        if size is None:
            return list(batch.step[0])
        positions = sorted((at for piece in batch.step for at in piece), key=lambda at: -batch.lengths[at])
        return (positions * size)[:size]

    def _start(self, batch: Batch) -> int | None:
        """The peak while the method looks at training rows; None where it does not."""
        longest = sorted(range(len(batch.examples)), key=lambda place: -batch.lengths[place])[: batch.size]
        with self._kernels():
            found = peak_at_start(
                self._recipe.training_hooks(),
                self._model,
                self._recipe.task,
                [batch.examples[place] for place in longest],
                mode=self._mode,
                autocast_dtype=self._autocast,
                allocator=self._allocator(),
            )
        if self._target.name == "cuda":  # what a method remembers of its start lies in the CPU's memory
            vars(self._model).pop("initial_adapter", None)
        return found

    def _allocator(self) -> CachingAllocator | None:
        return CachingAllocator() if self._target.name == "cuda" else None

    def _gradients_of_graphs(self, job: TrainingJob) -> int | None:
        """What the gradients of recorded steps take, which stay; None where no steps are recorded."""
        is_recorded = self._target.name == "cuda" and job.config.cuda_graphs != "off"
        own = replace(job, task=self._recipe.task)  # the one on shapes has batches of its own
        if not (is_recorded and self._trains) or why_not(own, self._model, on_card=True) is not None:
            return None
        return sum(tensor.nbytes for tensor in self._model.parameters() if tensor.requires_grad)

    def _kernels(self) -> contextlib.AbstractContextManager[None]:
        """The rules of the device's kernels."""
        return as_on_cuda() if self._target.name == "cuda" else contextlib.nullcontext()

    def _task_on_shapes(self) -> TaskOnShapes:
        """The task as it is trained."""
        hooks = HookList(self._recipe.training_hooks())
        return TaskOnShapes(hooks.training_task(self._recipe.task), self._mode, self._autocast)

    def _make_state(self, optimizer: torch.optim.Optimizer, hooks: HookList) -> None:
        """What optimizer and hooks keep after a first step."""
        for parameter in self._model.parameters():
            if parameter.requires_grad:
                parameter.grad = torch.empty_like(parameter)
        optimizer.step()
        hooks.after_step(self._model, 1)
        optimizer.zero_grad(set_to_none=True)

    def _while_quantized(self) -> int:
        """While a matrix is quantised, it is there in full precision too; so it is where a method compares the two."""
        layers: list[Any] = [m for m in self._model.modules() if type(m).__module__.startswith("bitsandbytes")]
        largest = max([int(layer.in_features * layer.out_features) for layer in layers], default=0)
        if not self._recipe.method.needs_original:
            return largest * self._dtype.itemsize
        # In float32: the matrix, the unpacked one, and their difference; to unpack one takes as much on CPU.
        return self._original_bytes + 3 * largest * torch.float32.itemsize

    def _job(self, batch: Batch, task: Task) -> TrainingJob:
        recipe = self._recipe
        accelerator = build_shapes_accelerator(self._autocast)
        hooks = HookList.begin(recipe.training_hooks(), self._model, self._context)
        with unset_fake_temporarily():  # bitsandbytes computes its code books, which are real, when it is set up
            optimizer = build_optimizer(self._model, recipe.training, 1e-3, hooks=hooks)
        model = accelerator.prepare(self._model) if self._autocast is not None else self._model
        return bare_job(
            recipe,
            batch,
            model=model,
            optimizer=accelerator.prepare(optimizer),
            accelerator=accelerator,
            task=task,
            hooks=hooks,
        )


@contextlib.contextmanager
def _refused_where_values_are_needed() -> Iterator[None]:
    try:
        yield
    except NEEDS_VALUES as error:
        raise UnsupportedError(
            f"the memory of this recipe cannot be estimated from shapes: {error.args[0]} depends on values",
            hint="`peftlab run` measures it.",
        ) from None


def _drop_attention_dropout(model: Any) -> None:
    """Fused attention keeps no probabilities, and so no mask of its dropout either."""
    for module in model.modules():
        for name, child in module.named_children():
            if isinstance(child, nn.Dropout) and "attention" in type(module).__name__.lower():
                setattr(module, name, nn.Dropout(0.0))
        if hasattr(module, "attention_dropout"):
            module.attention_dropout = 0.0

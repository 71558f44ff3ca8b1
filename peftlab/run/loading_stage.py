"""Load: tokens, base model, method; and what the task computes with the untouched base."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from peftlab.artifact.saved_run import fingerprint_of
from peftlab.core.fixed_bias import fixed_biases
from peftlab.core.reporter import progress_bar
from peftlab.core.task import Task
from peftlab.data.notices import describe_notes
from peftlab.estimate.micro_batch_plan import plan_micro_batches
from peftlab.estimate.target import Target, allowed_memory, find_target
from peftlab.preparation.check import CheckedRecipe
from peftlab.preparation.earlier_run import open_earlier
from peftlab.preparation.loading import Loader, WrappedModel
from peftlab.run.prepared import PREPARED, TorchUntouchedBase, prepare_splits
from peftlab.run.run_context import RunContext
from peftlab.run.teachers import NOTE as TEACHERS_NOTE
from peftlab.run.teachers import learn_from_teachers
from peftlab.training.guards import combined_hash, hash_tensors


def load(run: RunContext) -> tuple[Loader, WrappedModel]:
    """Everything that training needs."""
    findings, say = run.findings, run.reporter.say
    say(f"loading {run.checked.facts.path}")
    loader = Loader(run.checked, dtype=run.dtype, offline=run.offline, device=run.device)
    # Sizes depend on the memory that is free, and all processes cut alike.
    findings.micro_batches = run.world.first(
        lambda: plan_micro_batches(run.checked, loader, target_of(run.device).for_processes(run.world.size), say=say)
    )
    taught = learn_from_teachers(run, loader)
    wrapped = loader.load_wrapped(lambda base: _prepare_splits(run, loader, base))
    findings.base_fingerprint = _identify_base(run.checked)
    findings.notes = {name: dict(split.notes) for name, split in loader.splits.items()}
    findings.notes |= {TEACHERS_NOTE: taught} if taught else {}
    notes = {**run.checked.data.summary.notes, **findings.notes}
    for line in describe_notes(notes, run.checked.recipe.task.compared_by):
        say(line)
    if wrapped.own_head:
        say(wrapped.own_head)
    findings.own_head = wrapped.own_head or None
    findings.parameters = wrapped.parameters
    # With a bias that does not train: the same as that of runs in which it did.
    findings.initial_adapter_sha256 = combined_hash(
        {**wrapped.initial_hashes, **hash_tensors(fixed_biases(wrapped.model))}
    )
    findings.guards["trainable_parameters"] = wrapped.guard
    return loader, wrapped


def _identify_base(checked: CheckedRecipe) -> str | None:
    """The fingerprint of the base; one that an adapter is taken up for must be the one that it was tuned on."""
    if checked.model_location is None:
        return None
    found = fingerprint_of(checked.model_location, revision=checked.recipe.model.revision)
    continues = checked.recipe.continues
    if continues is not None and continues.weights and (earlier := open_earlier(checked.recipe)) is not None:
        earlier.check_base(found)
    return found


def target_of(device: torch.device) -> Target:
    """The device that a run has, with what is free of it, or what may be used of that."""
    if device.type != "cuda":
        return find_target("cpu")
    # What torch has taken for earlier work of this process, and does not use any more, is free for it.
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    free, allowed = torch.cuda.mem_get_info(device)[0] + kept, allowed_memory()
    return Target("cuda", free if allowed is None else min(free, allowed))


def _prepare_splits(run: RunContext, loader: Loader, base: Any) -> None:
    """Let the task compute what it needs of the untouched base."""
    recipe, task = run.recipe, run.recipe.task
    if type(task).prepare is Task.prepare:
        return
    placed: nn.Module = base
    if run.placement.shards:  # a base that the method is to wrap must be whole
        placed = run.placement.place(loader.load_base().model)
    elif recipe.model.offload is None:
        placed = run.placement.place(base)
    asked = TorchUntouchedBase(
        placed,
        task,
        run.inference(loader.tokenizer),
        batches=recipe.evaluation_batches,
        pad_token_id=loader.tokenizer.pad_token_id,
        after_batch=run.reporter.advance,
        world=run.world,
    )
    settings = recipe.model_dump(mode="json", include={"model", "task", "seed"})
    summary = run.checked.data.summary
    identity = [summary.fingerprint, settings, *filter(None, [summary.added_rows_fingerprint])]
    with progress_bar(run.reporter, "preparing", sum(map(len, loader.splits.values()))):
        prepared = prepare_splits(task, loader.splits, asked, base, run.folder.path / PREPARED, identity, run.world)
    loader.splits.update(prepared)

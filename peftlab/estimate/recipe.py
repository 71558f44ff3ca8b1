"""``estimate_recipe``: what a recipe will take, whether it fits, what would still fit, and what would make it fit."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from peftlab.core.amounts import size as size_in_words
from peftlab.core.config import Document, replace_config
from peftlab.core.errors import UserError
from peftlab.core.reporter import Reporter, Silent, progress_bar
from peftlab.estimate import search
from peftlab.estimate.bare_job import Batch, placeholder_batch
from peftlab.estimate.changes import Change, possible_changes
from peftlab.estimate.target import Target
from peftlab.estimate.training import PhaseMemory, ShapesOfRecipe
from peftlab.preparation.check import CheckedModel, CheckedRecipe
from peftlab.preparation.check_settings import check_settings
from peftlab.preparation.pretraining import pretraining_recipe
from peftlab.recipe.schema import Recipe

LARGEST_BATCH = 4096
LENGTH_STEP = 8
UNKNOWN_LABELS = ("a", "b")
"""Where the data is not at hand: two classes. The head is small beside all else."""
WITHOUT_GENERATION = "the texts that evaluation writes, and their cache of keys and values, are not counted"


@dataclass(frozen=True)
class Estimate:
    """The memory of a recipe before it runs.

    Args:
        memory: Peaks by phase, and training's by category.
        target: The device that it is for.
        batch: Of the step that was watched.
        is_from_data: Whether the batch is the longest of the data; else it is as long as the recipe allows, and every
            token that can carry a label does.
        notes: What the estimate leaves out.
        largest_batch_size: Examples of that length at once that fit; None where none do, or the memory is unknown.
        largest_length: Tokens of each text at that batch size that fit.
        changes: What would take less, the cheapest first; the last ones are added up until it fits.
    """

    memory: PhaseMemory
    target: Target
    batch: Batch
    is_from_data: bool
    notes: tuple[str, ...] = ()
    largest_batch_size: int | None = None
    largest_length: int | None = None
    changes: tuple[tuple[Change, int], ...] = field(default=())

    @property
    def peak_bytes(self) -> int:
        """The highest peak of all phases."""
        return max(self.memory.phases.values())

    @property
    def fits(self) -> bool | None:
        """Whether the peak is within the device's memory; None where that is unknown."""
        return None if self.target.memory_bytes is None else self.peak_bytes <= self.target.memory_bytes

    @property
    def categories(self) -> dict[str, int]:
        """Training's peak, or evaluation's where no step is taken, by what it is for; they add up to it."""
        memory = self.memory.memory
        return {
            "parameters": memory.parameters_bytes,
            "quantization_state": memory.quantization_bytes,
            "gradients": memory.gradients_bytes,
            "optimizer": memory.optimizer_bytes,
            "activations": memory.activations_bytes,
            "workspace": self.memory.workspace_bytes,
        }

    def to_json(self) -> dict[str, Any]:
        """For ``--json``; sizes in bytes."""
        memory = self.target.memory_bytes
        return {
            "peak_bytes": self.peak_bytes,
            "categories": self.categories,
            "phases": dict(self.memory.phases),
            "fits": self.fits,
            "memory_bytes": memory,
            "device": self.target.name,
            "processes": self.target.processes,
            "verified": self.target.is_verified,
            "batch_size": self.batch.size,
            "length": self.batch.length,
            "length_from": "data" if self.is_from_data else "task.max_length",
            "loss_terms": self.memory.loss_terms,
            "notes": list(self.notes),
            "largest_batch_size": self.largest_batch_size,
            "largest_length": self.largest_length,
            "changes": [
                {
                    "set": dict(change.settings),
                    "effect": change.effect,
                    "peak_bytes": peak,
                    "fits": None if memory is None else peak <= memory,
                }
                for change, peak in self.changes
            ],
        }


def estimate_recipe(
    checked: CheckedModel,
    target: Target,
    *,
    batch: Batch | None = None,
    advise: bool = True,
    reporter: Reporter | None = None,
) -> Estimate:
    """Estimate the memory of a recipe; of several processes, that of the one which takes most.

    Args:
        checked: The recipe and its model; with its data, the labels are the data's own.
        target: The device that it is for.
        batch: The longest batches of the data, where they are known; else texts as long as the recipe allows.
        advise: Also look for the largest batch and length, and for changes that make it fit.
        reporter: Is told how far that is, since each size that is tried takes seconds where a model is large.

    Raises:
        UserError: The model or the method cannot be built, or torch cannot run it on shapes.
    """
    if checked.recipe.training.sharding is None or target.processes == 1:
        return _estimate(checked, target, batch, advise, reporter or Silent())
    from peftlab.training.paper_group import paper_group

    with paper_group(target.processes):
        return _estimate(checked, target, batch, advise, reporter or Silent())


def _estimate(checked: CheckedModel, target: Target, batch: Batch | None, advise: bool, reporter: Reporter) -> Estimate:
    labels = checked.labels if isinstance(checked, CheckedRecipe) else UNKNOWN_LABELS
    recipe = checked.recipe
    own_batch = allowed = batch or longest_batch(recipe, labels, target.processes)
    shapes = ShapesOfRecipe(checked, labels, target)
    memory = shapes.memory(own_batch)
    notes = _unknown(checked, batch) + ((WITHOUT_GENERATION,) if recipe.task.generates_text else ())
    if cuts_by_itself(recipe) and target.memory_bytes is not None and own_batch.size > 1:
        whole, (own_batch, memory) = own_batch.size, _as_cut(shapes, own_batch, memory, target.memory_bytes, reporter)
        if own_batch.size < whole:
            notes = (f"training.micro_batch_size is auto: of {whole} examples {own_batch.size} at once", *notes)
    known: dict[tuple[int, int], int] = {}  # peaks that need not be asked for again
    if batch is None and own_batch is allowed and own_batch.length == recipe.task.longest():
        known[own_batch.size, own_batch.length] = max(memory.phases.values())
    memory = _with_pretraining(memory, checked, target)
    found = Estimate(memory, target, own_batch, is_from_data=batch is not None, notes=notes)
    if not advise or target.memory_bytes is None:
        return found
    size, length, available = own_batch.size, own_batch.length, target.memory_bytes
    batches = len(own_batch.step)  # gradients of the first lie beside the second

    def peak(size: int, length: int) -> int:
        reporter.advance(1)
        if (size, length) not in known:
            other = placeholder_batch(recipe.task, labels, size=size, length=length, batches=batches)
            known[size, length] = max(shapes.memory(other).phases.values())
        return known[size, length]

    # Lengths may count more than a text's positions, such as the patches of an image beside it.
    longest = max(length, (checked.facts.max_length or 1 << 20) - recipe.method.extra_positions())
    verdict = "fits" if found.fits else "does not fit"
    reporter.say(f"peak {size_in_words(found.peak_bytes)} on {target.name}: {verdict} into {size_in_words(available)}")
    with progress_bar(reporter, "looking for what fits", 2 * search.MOST_QUESTIONS):
        found = replace(
            found,
            largest_batch_size=search.largest_fitting(
                lambda n: peak(n, length), available, start=size, limit=LARGEST_BATCH
            ),
            largest_length=search.largest_fitting(
                lambda n: peak(size, n), available, start=min(length, longest), limit=longest, step=LENGTH_STEP
            ),
        )
    if found.fits:
        return found
    evaluation_is_most = memory.phases["evaluate"] == found.peak_bytes > memory.phases.get("train", 0)
    possible = possible_changes(checked, size, evaluation_is_most=evaluation_is_most)
    with progress_bar(reporter, "looking for changes that make it fit", len(possible)):
        return replace(found, changes=_find_changes(possible, checked, labels, target, own_batch, reporter))


def cuts_by_itself(recipe: Recipe) -> bool:
    """Whether a run computes as many examples at once as fit."""
    return recipe.training.micro_batch_size == "auto" and recipe.task.computes_in_parts


def _as_cut(
    shapes: ShapesOfRecipe, batch: Batch, memory: PhaseMemory, available: int, reporter: Reporter
) -> tuple[Batch, PhaseMemory]:
    """The batch as a run with ``micro_batch_size: auto`` cuts it, and its memory."""
    if max(memory.phases.values()) <= available:
        return batch, memory
    found: dict[int, PhaseMemory] = {}

    def peak(size: int) -> int:
        reporter.advance(1)
        found[size] = shapes.memory(batch.cut(size))
        return max(found[size].phases.values())

    with progress_bar(reporter, "looking for how many examples fit at once", search.MOST_QUESTIONS):
        size = search.largest_fitting(peak, available, start=max(1, batch.size // 2), limit=batch.size - 1) or 1
    return batch.cut(size), found[size]


def _with_pretraining(memory: PhaseMemory, checked: CheckedModel, target: Target) -> PhaseMemory:
    """The memory with the peak of the pre-training that comes first, if there is one."""
    if checked.recipe.model.pretrain is None:
        return memory
    recipe = pretraining_recipe(checked.recipe, checked.facts)
    first = replace(target, processes=1)
    shapes = ShapesOfRecipe(CheckedModel(recipe, checked.model_location, checked.facts), (), first)
    peak = max(shapes.memory(longest_batch(recipe, ())).phases.values())
    return replace(memory, phases={"pretrain": peak, **memory.phases})


def _unknown(checked: CheckedModel, batch: Batch | None) -> tuple[str, ...]:
    """What is not known yet, and what is taken in its place."""
    notes = []
    if not isinstance(checked, CheckedRecipe):
        head = checked.recipe.task.head
        has_classes = head(UNKNOWN_LABELS) != head((*UNKNOWN_LABELS, "c"))
        classes = ", and two classes," if has_classes else ""
        notes.append(f"the data is not here yet: texts as long as task.max_length{classes} are taken")
    elif batch is None:
        notes.append("the tokenizer is not here yet: texts as long as task.max_length are taken")
    if checked.model_location is None and batch is None and checked.facts.family != "image":
        size = checked.facts.config.get("vocab_size")
        taken = f"{size} tokens are" if size else "the usual size of its type is"
        notes.append(f"the vocabulary of the new model is not known before its tokenizer is: {taken} taken")
    return tuple(notes)


def longest_batch(recipe: Recipe, labels: tuple[str, ...], processes: int = 1) -> Batch:
    """The largest batch that a recipe allows, of texts as long as it allows; of several processes, the largest part."""
    training, length = recipe.training, recipe.task.longest()
    sizes = [] if training.batch_size is None else [training.batch_size]
    if training.max_tokens_per_batch is not None:
        sizes.append(max(1, training.max_tokens_per_batch // length))
    sizes = [math.ceil(size / processes) for size in sizes]
    if isinstance(training.micro_batch_size, int):
        sizes.append(training.micro_batch_size)
    # Accumulated batches come one after the other; that gradients are there already shows from the second on.
    return placeholder_batch(
        recipe.task, labels, size=min(sizes), length=length, batches=min(2, training.gradient_accumulation_steps)
    )


def _find_changes(
    possible: list[Change],
    checked: CheckedModel,
    labels: tuple[str, ...],
    target: Target,
    batch: Batch,
    reporter: Reporter,
) -> tuple[tuple[Change, int], ...]:
    """Each possible change with its peak; then, where none is enough, several at once."""
    assert target.memory_bytes is not None  # noqa: S101 - the caller has looked
    found: list[tuple[Change, int]] = []
    for change in possible:
        peak = _peak_after(checked, labels, target, batch, change)
        reporter.advance(1)
        if peak is not None:
            found.append((change, peak))
    if any(peak <= target.memory_bytes for _, peak in found):
        return tuple(found)
    together: Change | None = None
    for change, _ in list(found):
        together = change if together is None else together.and_also(change)
        if together is change:
            continue
        peak = _peak_after(checked, labels, target, batch, together)
        if peak is not None:
            found.append((together, peak))
            if peak <= target.memory_bytes:
                break
    return tuple(found)


def _peak_after(
    checked: CheckedModel, labels: tuple[str, ...], target: Target, batch: Batch, change: Change
) -> int | None:
    """The peak with a change; None where the combination does not exist."""
    try:
        recipe = _changed(checked.recipe, change.settings)
        check_settings(recipe, Document(source=recipe.name, values={}))
        shapes = ShapesOfRecipe(CheckedModel(recipe, checked.model_location, checked.facts), labels, target)
    except UserError:  # a run would refuse it too
        return None
    sizes = [change.settings.get(f"training.{key}", batch.size) for key in ("micro_batch_size", "batch_size")]
    size = min(batch.size, *map(int, sizes))
    batches = len(batch.step) if size == batch.size or not recipe.task.computes_in_parts else 2
    smaller = placeholder_batch(recipe.task, labels, size=size, length=batch.length, batches=batches)
    return max(shapes.memory(smaller).phases.values())


def _changed(recipe: Recipe, settings: Mapping[str, Any]) -> Recipe:
    for key, value in settings.items():
        section, _, name = key.partition(".")
        if key == "method.type":
            from peftlab.core.method import METHODS

            recipe = replace_config(recipe, method=METHODS.get(value)())
        else:
            recipe = replace_config(recipe, **{section: replace_config(getattr(recipe, section), **{name: value})})
    return recipe

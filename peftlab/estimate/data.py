"""The longest batches of a recipe's own data, where data and tokenizer are on this machine."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from peftlab.artifact.saved_folder import is_run
from peftlab.artifact.saved_run import SavedRun
from peftlab.core.config import Document
from peftlab.core.errors import SourceError
from peftlab.estimate.bare_job import Batch
from peftlab.models.facts import read_model_facts
from peftlab.models.gguf import converted_folder, write_gguf_tokenizer
from peftlab.preparation.check import CheckedModel, CheckedRecipe, check_data
from peftlab.preparation.loading import Loader
from peftlab.training.micro_batches import split_batches
from peftlab.training.world import share

READERS = ("tokenizer_config.json", "preprocessor_config.json")
"""What a tokenizer, or a reader of images, lies in."""


def with_local_data(checked: CheckedModel, document: Document) -> CheckedModel:
    """The recipe with its data, if that can be had without the network; else as it was."""
    try:
        return check_data(checked, document, offline=True)
    except SourceError:
        return checked


def look_at_data(checked: CheckedModel, processes: int = 1) -> tuple[CheckedModel, Batch | None]:
    """The batches of the data that take the most memory; None where data or tokenizer are not on this machine.

    Args:
        checked: The recipe, with its data where it is here.
        processes: How many share each batch.

    Returns:
        The recipe, with what the tokenizer tells of a model that starts from nothing; and the batches.
    """
    if not isinstance(checked, CheckedRecipe):
        return checked, None
    place = checked.model_location
    if isinstance(place, Path) and is_run(place):
        place = SavedRun.open(place).artifact  # the tokenizer lies there; the base is not needed
    if isinstance(place, Path) and place.is_dir() and not any((place / name).is_file() for name in READERS):
        return checked, None
    with tempfile.TemporaryDirectory(prefix="peftlab-") as folder:
        source = str(place) if isinstance(place, Path) and place != checked.model_location else None
        try:
            if isinstance(place, Path) and place.suffix == ".gguf" and converted_folder(place) is None:
                # The weights are not needed, and converting them can fill a disk.
                write_gguf_tokenizer(place, Path(folder))
                source = folder
            loader = Loader(checked, dtype=torch.float32, offline=True, source=source)
        except SourceError:
            return checked, None
        if source is None:
            checked = with_new_facts(checked, loader)
    setting = checked.recipe.training.micro_batch_size
    return checked, batch_of(loader, setting if isinstance(setting, int) else None, processes)


def with_new_facts(checked: CheckedRecipe, loader: Loader) -> CheckedRecipe:
    """The recipe with what is known once its base is there: a new model's vocabulary, or a GGUF file's weights."""
    place = checked.model_location
    if place is not None and not (isinstance(place, Path) and place.suffix == ".gguf"):
        return checked
    return replace(checked, facts=read_model_facts(Path(loader.source), path=checked.facts.path))


def batch_of(loader: Loader, micro_batch_size: int | None, processes: int = 1) -> Batch:
    """The batches of tokenised data that take the most memory.

    Args:
        loader: Has tokenised it.
        micro_batch_size: Larger batches are cut into pieces of so many examples.
        processes: How many share each batch; of theirs, the largest part.
    """
    split = loader.splits["train"]
    lengths = loader.train_lengths()
    batches = loader.plan.longest_step(lengths).batches

    def padded(piece: Sequence[int]) -> int:
        return len(piece) * max(lengths[position] for position in piece)

    shares = [share(batches, rank, processes) for rank in range(processes)]
    largest = max(filter(None, shares), key=lambda own: max(map(padded, own)))
    pieces = split_batches(largest, micro_batch_size)
    # Gradients of the pieces before lie beside the largest one: two pieces show as much as all of them.
    pieces = sorted(pieces, key=padded)[-2:]
    order = [position for piece in pieces for position in piece]
    places = {position: place for place, position in enumerate(order)}
    return Batch(
        [split.examples[at] for at in order],
        [lengths[at] for at in order],
        [[places[i] for i in piece] for piece in pieces],
        loader.pairs,
    )

"""The longest batches of a recipe's own data, where data and tokenizer are on this machine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from peftlab.check import CheckedModel, CheckedRecipe, check_data
from peftlab.config import Document
from peftlab.errors import SourceError
from peftlab.estimate.training import Batch
from peftlab.loading import Loader
from peftlab.models.facts import read_model_facts
from peftlab.models.load import local_source
from peftlab.training.micro_batches import split_batches


def with_local_data(checked: CheckedModel, document: Document) -> CheckedModel:
    """The recipe with its data, if that can be had without the network; else as it was."""
    try:
        return check_data(checked, document, offline=True)
    except SourceError:
        return checked


def look_at_data(checked: CheckedModel) -> tuple[CheckedModel, Batch | None]:
    """The batches of the data that take the most memory; None where data or tokenizer are not on this machine.

    Returns:
        The recipe, with what the tokenizer tells of a model that starts from nothing; and the batches.
    """
    if not isinstance(checked, CheckedRecipe):
        return checked, None
    place = checked.model_location
    source = Path(local_source(place)) if place is not None else None
    if source is not None and source.is_dir() and not (source / "tokenizer_config.json").is_file():
        return checked, None
    try:
        loader = Loader(checked, dtype=torch.float32, offline=True)
    except SourceError:
        return checked, None
    setting = checked.recipe.training.micro_batch_size
    return with_new_facts(checked, loader), batch_of(loader, setting if isinstance(setting, int) else None)


def with_new_facts(checked: CheckedRecipe, loader: Loader) -> CheckedRecipe:
    """The recipe, with the size that the tokenizer has given to a model that starts from nothing."""
    if checked.model_location is not None:
        return checked
    return replace(checked, facts=read_model_facts(Path(loader.source), path=checked.facts.path))


def batch_of(loader: Loader, micro_batch_size: int | None) -> Batch:
    """The batches of tokenised data that take the most memory.

    Args:
        loader: Has tokenised it.
        micro_batch_size: Larger batches are cut into pieces of so many examples.
    """
    split = loader.splits["train"]
    lengths = split.lengths()
    pieces = split_batches(loader.plan.longest_step(lengths).batches, micro_batch_size)
    # Gradients of the pieces before lie beside the largest one: two pieces show as much as all of them.
    pieces = sorted(pieces, key=lambda piece: len(piece) * max(lengths[position] for position in piece))[-2:]
    order = [position for piece in pieces for position in piece]
    places = {position: place for place, position in enumerate(order)}
    return Batch([split.examples[position] for position in order], [[places[i] for i in piece] for piece in pieces])

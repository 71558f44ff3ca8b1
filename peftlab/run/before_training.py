"""What a recipe asks for before its own training begins: pre-training, changed texts, pruning, pseudo-labels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from peftlab.core.reporter import Reporter
from peftlab.preparation.check import CheckedRecipe
from peftlab.run.augmentation import with_made_copies
from peftlab.run.pretraining import with_pretrained_base
from peftlab.run.pruning import pruned
from peftlab.run.self_training import with_pseudo_labels
from peftlab.run.side_runs import Execute

if TYPE_CHECKING:
    import torch

    from peftlab.training.world import World


def with_steps_before_training(
    checked: CheckedRecipe,
    folder: Path,
    execute: Execute,
    *,
    device: torch.device,
    offline: bool,
    reporter: Reporter,
    world: World,
) -> CheckedRecipe:
    """The recipe that the run's own stages take.

    Args:
        checked: The recipe and its data.
        folder: The run's.
        execute: Runs a recipe that comes first.
        device: Where it runs.
        offline: Allow no network.
        reporter: Tells a person.
        world: The processes that train together.

    Raises:
        RunFailedError: A run that comes first has failed, or was stopped.
        UserError: It cannot be.
    """
    checked = with_pretrained_base(checked, folder, execute, reporter=reporter, processes=world.size)
    checked = with_made_copies(checked, folder, execute, device=device, offline=offline, reporter=reporter, world=world)
    checked = pruned(checked, folder, execute, reporter=reporter, processes=world.size)
    return with_pseudo_labels(
        checked, folder, execute, device=device, offline=offline, reporter=reporter, processes=world.size
    )

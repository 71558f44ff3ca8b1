"""What all stages of a run know."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch

from peftlab.core.callback import CallbackList
from peftlab.core.reporter import Reporter
from peftlab.models.base_model import resolve_dtype
from peftlab.preparation.check import CheckedRecipe
from peftlab.recipe.schema import Recipe
from peftlab.run.findings import Findings
from peftlab.run.run_folder import RunFolder
from peftlab.training.accelerator import autocast_dtype
from peftlab.training.evaluation import TorchInference
from peftlab.training.interrupts import Interrupts
from peftlab.training.offload import Placement
from peftlab.training.sharding import Sharding, mesh_of
from peftlab.training.world import World


@dataclass(frozen=True)
class RunContext:
    """A run that goes on.

    Args:
        checked: What to run.
        folder: Where it leaves everything.
        findings: Is filled on the way.
        device: Where it runs.
        offline: Allow no network.
        reporter: Tells a person.
        interrupts: Ctrl-C.
        callbacks: Of the program that runs it.
        world: The processes that run it.
        started: When, on the monotonic clock.
    """

    checked: CheckedRecipe
    folder: RunFolder
    findings: Findings
    device: torch.device
    offline: bool
    reporter: Reporter
    interrupts: Interrupts
    callbacks: CallbackList
    world: World
    started: float = field(default_factory=time.monotonic)

    @property
    def recipe(self) -> Recipe:
        """What runs."""
        return self.checked.recipe

    @cached_property
    def dtype(self) -> torch.dtype:
        """Of the base's weights."""
        is_frozen = not self.recipe.method.trains_base
        return resolve_dtype(self.recipe.model.dtype, device=self.device, base_is_frozen=is_frozen)

    @cached_property
    def autocast_dtype(self) -> torch.dtype | None:
        """To compute in; None: the weights' own."""
        return autocast_dtype(self.recipe.training.precision, device=self.device, weights=self.dtype)

    @cached_property
    def placement(self) -> Placement:
        """Puts models onto the device, or leaves their blocks where the recipe offloads them to."""
        sharding = None
        if self.world.keeps_pace:
            sharding = Sharding(mesh_of(self.world.new_group(), self.device), self.recipe.method.trains_base)
        return Placement(self.recipe.model.offload, device=self.device, folder=self.folder.path, sharding=sharding)

    def inference(self, tokenizer: Any, metric: str | None = None) -> TorchInference:
        """How the run's models are asked.

        Args:
            tokenizer: The base's.
            metric: The only metric that is wanted; None: all.
        """
        return TorchInference(
            tokenizer=tokenizer,
            labels=self.checked.labels,
            metric=metric,
            virtual_tokens=self.recipe.method.extra_positions(),
            device=self.device,
            autocast_dtype=self.autocast_dtype,
        )

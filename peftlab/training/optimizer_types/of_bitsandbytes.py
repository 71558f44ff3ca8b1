"""bitsandbytes' optimizers: states in 8 bits, and states that move to the CPU's memory where the GPU's is full (paged).

Those that keep plain states on the device are torch's and pytorch-optimizer's.
"""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from typing import Any

from pydantic import Field, PositiveFloat

from peftlab.core.optimizer import OPTIMIZERS
from peftlab.training.optimizer_types._from_library import LibraryOptimizer, register_library
from peftlab.training.optimizer_types._signatures import recipe_name, signatures_in


class WithMomentum(LibraryOptimizer):
    """It has no kernel without momentum, which is the library's default."""

    momentum: PositiveFloat = Field(0.9, lt=1, description="Share of the last step that is kept.")

    def settings(self) -> dict[str, Any]:
        """With the momentum."""
        return {**super().settings(), "momentum": self.momentum}


for _each in signatures_in("bitsandbytes", "optim"):
    _name = _each.class_name
    if (_name.endswith("8bit") and _name != "Optimizer8bit") or (
        _name.startswith("Paged") and not _name.endswith("32bit")
    ):
        _needs_momentum = _name in {"SGD8bit", "LARS8bit"}
        if _needs_momentum:
            _each = replace(_each, defaults={k: v for k, v in _each.defaults.items() if k != "momentum"}, required=())
        register_library(
            _each,
            recipe_name(_name),
            module="bitsandbytes.optim",
            package="bitsandbytes",
            base=WithMomentum if _needs_momentum else LibraryOptimizer,
        )

if importlib.util.find_spec("bitsandbytes") is None:
    OPTIMIZERS.broken["bitsandbytes"] = "it is not installed: pip install bitsandbytes"

"""Full tuning: every parameter trains. What the other methods are measured against."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from peftlab.core.method import METHODS, Method, MethodContext


@METHODS.register("full")
class Full(Method):
    """Full tuning: every parameter trains."""

    works_sharded: ClassVar[bool] = True
    paper: ClassVar[str] = "https://arxiv.org/abs/1810.04805"
    other_names: ClassVar[Mapping[str, str]] = {
        "full_fine_tuning": "Write `full`.",
        "fine_tuning": "Write `full`.",
        "full_ft": "Write `full`.",
        "sft": "SFT is a task, not a method: write `full` or `lora`, and `task: {type: instruction_tuning}`.",
    }
    default_learning_rate: ClassVar[float] = 1e-4
    mergeable: ClassVar[bool] = True
    starts_as_base: ClassVar[bool] = True
    trains_base: ClassVar[bool] = True

    def apply(self, model: Any, context: MethodContext) -> Any:
        """Let every parameter require a gradient, in float32: half precision rounds small updates away."""
        return model.float().requires_grad_(True)

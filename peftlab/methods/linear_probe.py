"""Linear probe: the base is frozen and only the head trains (Alain and Bengio 2016, https://arxiv.org/abs/1610.01644)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from peftlab.core.errors import UnsupportedError
from peftlab.core.method import METHODS, Method, MethodContext
from peftlab.methods._freezing import freeze_base


@METHODS.register("linear_probe")
class LinearProbe(Method):
    """Linear probe: only the head trains, on the frozen base's representations."""

    works_sharded: ClassVar[bool] = True
    paper: ClassVar[str] = "https://arxiv.org/abs/1610.01644"
    other_names: ClassVar[Mapping[str, str]] = {
        "linear": "Write `linear_probe`.",
        "probing": "Write `linear_probe`.",
        "head_only": "Write `linear_probe`.",
    }
    mergeable: ClassVar[bool] = True
    starts_as_base: ClassVar[bool] = True
    default_learning_rate: ClassVar[float] = 1e-2

    def apply(self, model: Any, context: MethodContext) -> Any:
        """Freeze all but the head.

        Raises:
            UnsupportedError: The task has no head of its own.
        """
        if not context.head_modules:
            raise UnsupportedError("a linear probe trains the task's head, and this task has none of its own")
        freeze_base(model, context)
        return model

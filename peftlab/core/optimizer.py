"""The contract of an optimizer: a class whose fields are the keys of ``training.optimizer``."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

from peftlab.core.config import RegisteredConfig
from peftlab.core.registry import Registry

if TYPE_CHECKING:
    import torch
    from torch import nn

USUAL_RATE = 1e-3
"""The default rate of Adam in every library; a method's own default is meant for AdamW."""

Group = dict[str, Any]
"""A parameter group: ``params``, ``weight_decay``, ``rate_factor`` (what the rate is multiplied by), ``low_rank``
(matrices that are no table of embeddings)."""


class OptimizerConfig(RegisteredConfig):
    """An optimizer. The docstring's first line is what ``peftlab ls optimizers`` shows.

    The learning rate and the weight decay are the recipe's (``training.learning_rate``, ``training.weight_decay``).
    """

    if TYPE_CHECKING:  # a class that was looked up by its name takes its own keys

        def __init__(self, **keys: Any) -> None: ...

    required_attributes: ClassVar[tuple[str, ...]] = ()
    refusal: ClassVar[str] = ""
    """Why the training loop cannot give it what it needs; empty where it can."""
    package: ClassVar[str] = ""
    """The package that it is in, where peftlab does not bring that one."""
    default_rate: ClassVar[float] = USUAL_RATE
    """Its library's default learning rate."""
    finds_rate: ClassVar[bool] = False
    """Whether it finds the rate by itself: then ``learning_rate`` multiplies what it finds, and is 1 by default."""
    averages: ClassVar[bool] = False
    """Whether it keeps averaged weights for evaluation, in the place of a schedule."""
    follows_rate: ClassVar[bool] = True
    """Whether a smaller rate moves the weights less, so that warm-up and schedule count in full."""
    needs_trained_base: ClassVar[bool] = False
    """Whether it is for large matrices alone, which only full tuning trains."""

    @abstractmethod
    def build(self, groups: list[Group], learning_rate: float, model: nn.Module) -> torch.optim.Optimizer:
        """The optimizer.

        Args:
            groups: Of parameters.
            learning_rate: The peak. Before each step the loop sets ``lr`` of every group.
            model: Whose parameters these are.

        Raises:
            UnsupportedError: Its package cannot be imported, or it refuses its settings.
        """

    @classmethod
    def rate_for(cls, rate_of_method: float) -> float:
        """The learning rate where a recipe names none: in the ratio of the libraries' defaults."""
        return 1.0 if cls.finds_rate else rate_of_method * (cls.default_rate / USUAL_RATE)


OPTIMIZERS: Registry[OptimizerConfig] = Registry(
    "optimizer",
    package="peftlab.training.optimizer_types",
    entry_point_group="peftlab.optimizers",
    base=OptimizerConfig,
)

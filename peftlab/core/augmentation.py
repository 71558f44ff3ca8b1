"""The contract of an augmentation: training texts, changed a little, that are learned beside the original ones."""

from __future__ import annotations

from abc import ABC, abstractmethod
from random import Random
from typing import ClassVar

from pydantic import Field, PositiveInt

from peftlab.core.config import RegisteredConfig
from peftlab.core.registry import Registry


class Augmentation(RegisteredConfig, ABC):
    """An augmentation. The docstring's first line is what ``peftlab ls augmentations`` shows.

    Its fields are the keys of its entry in a recipe's list ``data.augmentation``.
    """

    paper: ClassVar[str] = ""
    """Where it comes from: a link."""

    copies: PositiveInt = Field(1, description="Changed copies of each training row; the row itself stays.")

    @abstractmethod
    def change(self, text: str, random: Random) -> str:
        """A text that the same label holds for; the same text where there is nothing to change.

        Args:
            text: Of a training row.
            random: What is drawn comes from here alone, so that every process and every repetition gets the same.
        """


AUGMENTATIONS: Registry[Augmentation] = Registry(
    "augmentation", package="peftlab.augmentations", entry_point_group="peftlab.augmentations"
)

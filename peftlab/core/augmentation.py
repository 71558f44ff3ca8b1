"""The contract of an augmentation: texts, changed a little, from which the same can be learned.

Most change one text at a time. One that needs a model, such as a translator, names it, and changes many texts at once;
the run loads the model before anything trains.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, PositiveInt

from peftlab.core.config import RegisteredConfig
from peftlab.core.registry import Registry

if TYPE_CHECKING:
    import torch


class Augmentation(RegisteredConfig, ABC):
    """An augmentation. The docstring's first line is what ``peftlab ls augmentations`` shows.

    Its fields are the keys of its entry in a recipe's list ``data.augmentation``.
    """

    if TYPE_CHECKING:  # a class that was looked up by its name takes its own keys

        def __init__(self, **keys: Any) -> None: ...

    paper: ClassVar[str] = ""
    """Where it comes from: a link."""

    copies: PositiveInt = Field(1, description="Changed copies of each row; the row itself stays.")
    rows: Literal["train", "unlabeled"] = Field(
        "train",
        description="train: copies of training rows are learned beside them. unlabeled: copies of the texts without "
        "labels, for a regularizer that compares the answers to both, such as uda.",
    )
    keep_if: Literal["agrees"] | None = Field(
        None,
        description="agrees: a copy is kept only where a teacher, a run of the same recipe without augmentation, gives "
        "it the class that it gives the row. null: all are kept.",
    )

    @abstractmethod
    def change(self, text: str, random: Random) -> str:
        """A text that the same label holds for; the same text where there is nothing to change.

        Args:
            text: Of a row.
            random: What is drawn comes from here alone, so that every process and every repetition gets the same.
        """


@dataclass(frozen=True)
class NeededModel:
    """A model that an augmentation works with.

    Args:
        path: An address as in ``model.path``; None: the run's own base.
        auto_class: transformers' auto class that it is loaded with.
    """

    path: str | None
    auto_class: Literal["AutoModelForMaskedLM", "AutoModelForSeq2SeqLM"]


@dataclass(frozen=True)
class LoadedModel:
    """A model that is ready to be asked.

    Args:
        model: Of transformers, in eval mode.
        tokenizer: Its tokenizer.
        max_length: Tokens that it reads at most; None: any number.
        device: Where it is.
    """

    model: Any
    tokenizer: Any
    max_length: int | None
    device: torch.device


class ModelAugmentation(Augmentation):
    """An augmentation that needs models."""

    @abstractmethod
    def needed_models(self) -> Mapping[str, NeededModel]:
        """The models, each under the key of the recipe that names it."""

    @abstractmethod
    def change_all(
        self, texts: Sequence[str], randoms: Sequence[Random], models: Mapping[str, LoadedModel]
    ) -> list[str]:
        """As ``change``, of many texts at once.

        Args:
            texts: Of rows.
            randoms: Of each text its own; what is drawn for it comes from there alone.
            models: What ``needed_models`` named.
        """

    def change(self, text: str, random: Random) -> str:
        """Not without the models.

        Raises:
            NotImplementedError: Always.
        """
        raise NotImplementedError(f"{self.registered_name} changes texts by its models: call change_all")


AUGMENTATIONS: Registry[Augmentation] = Registry(
    "augmentation", package="peftlab.augmentations", entry_point_group="peftlab.augmentations", base=Augmentation
)

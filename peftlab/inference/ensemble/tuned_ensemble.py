"""Several tuned models that answer as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn, Self

from torch import Tensor

from peftlab.artifact.saved_ensemble import MEMBERS
from peftlab.core.errors import UnsupportedError
from peftlab.core.splits import EncodedSplit, Example, Split
from peftlab.core.task import Prediction
from peftlab.inference.tuned_model import TunedModel
from peftlab.recipe.schema import with_learned


@dataclass(frozen=True)
class TunedEnsemble(TunedModel):
    """Each model reads a text with its own tokenizer, and says with what probability; the mean of that is the answer.

    Args:
        members: The models; their bases and methods may differ.
    """

    members: tuple[TunedModel, ...] = ()

    @classmethod
    def of_members(
        cls, members: Sequence[TunedModel], *, name: str, folder: Path, learned: Mapping[str, Any] | None = None
    ) -> Self:
        """An ensemble of loaded models.

        Args:
            members: Of one task, with the same classes.
            name: Of the ensemble.
            folder: Of the ensemble.
            learned: What the task has learned; None: what the first has.
        """
        first = members[0]
        recipe = first.recipe if learned is None else with_learned(first.recipe, learned)

        def no_logits(batch: Mapping[str, Tensor]) -> NoReturn:
            raise _single_model_needed(folder)

        return cls(
            name=name,
            folder=folder,
            recipe=recipe,
            labels=first.labels,
            temperature=1.0,
            tokenizer=first.tokenizer,
            compute_logits=no_logits,
            members=tuple(members),
        )

    @property
    def computes_alone(self) -> bool:
        """Its batches are those of its models."""
        return True

    def encode(self, split: Split) -> EncodedSplit:
        """Each row as each model reads it; a text counts as cut where a model has cut it."""
        encoded = [member.encode(split) for member in self.members]
        examples: list[Example] = [
            {**own[0], MEMBERS: own, "truncated": any(example.get("truncated") for example in own)}
            for own in zip(*(each.examples for each in encoded), strict=True)
        ]
        return replace(encoded[0], examples=examples)

    def predict(self, examples: Sequence[Example]) -> list[Prediction]:
        """The mean of what the models say, in the order of the examples."""
        said = [
            member.predict([example[MEMBERS][at] for example in examples]) for at, member in enumerate(self.members)
        ]
        return [self.task.pool(own, self.labels) for own in zip(*said, strict=True)]

    def module(self) -> NoReturn:
        """There is no single module.

        Raises:
            UnsupportedError: Always.
        """
        raise _single_model_needed(self.folder)


def _single_model_needed(folder: Path) -> UnsupportedError:
    return UnsupportedError(
        "an ensemble has the mean of its runs' answers, and a single model is needed here",
        where=str(folder),
        hint=f"Name one of its runs, such as {folder}/{MEMBERS}/1.",
    )

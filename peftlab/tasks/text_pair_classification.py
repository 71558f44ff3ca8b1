"""Text pair classification: entailment, paraphrase, question and answer."""

from __future__ import annotations

from typing import ClassVar, Self

from pydantic import Field, model_validator

from peftlab.core.task import TASKS
from peftlab.core.task_guess import Guesser
from peftlab.tasks.guesses.classes import guess_classes_of_pairs
from peftlab.tasks.text_classification import TextClassification


@TASKS.register("text_pair_classification")
class TextPairClassification(TextClassification):
    """Choose the class of a pair of texts, such as a premise and a hypothesis."""

    guess: ClassVar[Guesser] = staticmethod(guess_classes_of_pairs)

    text: str | list[str] = Field(
        ["text_1", "text_2"], description="The two columns of the pair, in the order in which the model reads them."
    )

    @model_validator(mode="after")
    def _check_pair(self) -> Self:
        if len(self.text_columns()) != 2:
            raise ValueError("`text` takes two columns here, such as [premise, hypothesis]")
        return self

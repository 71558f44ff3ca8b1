"""Text generation: instruction tuning that is judged by the text it writes, against one or several references."""

from __future__ import annotations

from typing import ClassVar

from peftlab.core.splits import Split
from peftlab.core.task import TASKS
from peftlab.core.task_guess import Guesser
from peftlab.tasks._text_metrics import LOSS_METRICS, TEXT_METRICS, are_short
from peftlab.tasks.guesses.conversations import guess_texts_to_write
from peftlab.tasks.instruction_tuning import InstructionTuning
from peftlab.tasks.language.conversations import RESPONSES


@TASKS.register("text_generation")
class TextGeneration(InstructionTuning):
    """Write a text for an input, such as a sentence for a table; rows with the same input are its references."""

    guess: ClassVar[Guesser] = staticmethod(guess_texts_to_write)
    metrics: ClassVar[tuple[str, ...]] = ("bleu", *(name for name in TEXT_METRICS if name != "bleu"), *LOSS_METRICS)

    def default_metric(self, validation: Split | None) -> str:
        """BLEU; where most answers are shorter than its n-grams, the share of exact matches."""
        if validation is not None and are_short(validation.columns[RESPONSES]):
            return "exact_match"
        return self.metrics[0]

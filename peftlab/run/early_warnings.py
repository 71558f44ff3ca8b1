"""What a person should hear of a run while it can still be stopped: settings and data that seldom end well."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean

from peftlab.core.config import replace_config
from peftlab.core.reporter import ProgressCallback
from peftlab.core.splits import EncodedSplit, Split
from peftlab.preparation.check_settings import unheeded_rate
from peftlab.recipe.schema import Recipe, resolve_recipe

CUT_SHARE = 0.1
CUT_NOTES = ("texts_cut", "prompts_cut", "prompt_ends_cut")
RATE_FACTOR = 30.0
"""A rate so many times the method's usual one, or so many times less, is seldom meant."""
FLAT_STEPS, FLAT_LOGS, FLAT_FALL = 50, 6, 0.01
NEAR_MAJORITY = 0.005


def warnings_at_start(
    recipe: Recipe, splits: Mapping[str, Split], encoded: EncodedSplit, labels: Sequence[str]
) -> Iterator[str]:
    """What can be said before the first step.

    Args:
        recipe: Resolved.
        splits: The rows.
        encoded: The training split, tokenised.
        labels: Names of the classes.
    """
    rate = recipe.training.learning_rate
    open_rate = replace_config(recipe, training=replace_config(recipe.training, learning_rate=None))
    usual = resolve_recipe(open_rate).training.learning_rate
    if rate and usual and not usual / RATE_FACTOR <= rate <= usual * RATE_FACTOR:
        yield (
            f"training.learning_rate is {rate:g}, and {recipe.method.registered_name} usually learns at {usual:g}: "
            f"leave it out, or try --set training.learning_rate={usual:g}"
        )
    unheeded = unheeded_rate(recipe)
    if unheeded is not None:
        yield unheeded
    cut = max((int(encoded.notes.get(name, 0)) for name in CUT_NOTES), default=0)
    if len(encoded) and cut / len(encoded) > CUT_SHARE:
        yield (
            f"{cut / len(encoded):.0%} of the training texts are cut to task.max_length: a larger one reads more of "
            "them, and takes more memory and time"
        )
    found = set(recipe.task.classes(splits["train"]))
    # Tags may be written in another way than their classes are named; nothing can be said of those.
    never = [name for name in labels if name not in found] if found and found <= set(labels) else []
    if never:
        shown = ", ".join(f"`{name}`" for name in never[:5]) + (f" and {len(never) - 5} more" if len(never) > 5 else "")
        yield f"no training row has the label {shown}: the model cannot learn it; add rows, or take the label out"


class CourseWatch:
    """Looks at loss and scores as they come, and says each thing once.

    Args:
        recipe: Resolved.
        validation: The rows; None: there is no such split.
        say: Takes a line.
    """

    def __init__(self, recipe: Recipe, validation: Split | None, say: ProgressCallback) -> None:
        self._recipe, self._say = recipe, say
        self._losses: list[float] = []
        self._told: set[str] = set()
        strata = recipe.task.strata(validation) if validation is not None else None
        self._majority = Counter(strata).most_common(1)[0] if strata else None
        self._rows = len(strata or ())

    def look_at_loss(self, step: int, loss: float) -> None:
        """After a step that is logged."""
        self._losses.append(loss)
        if step < FLAT_STEPS or len(self._losses) < FLAT_LOGS:
            return
        third = len(self._losses) // 3
        before, after = fmean(self._losses[:third]), fmean(self._losses[-third:])
        if before > 0 and after > before * (1 - FLAT_FALL) and after > 0.05:
            self._tell(
                "flat",
                f"the loss has hardly fallen in {step} steps ({before:.3f}, now {after:.3f}): try a "
                f"training.learning_rate three times as high or as low as {self._recipe.training.learning_rate:g}, and "
                "see that text and label are the right columns",
            )

    def look_at_scores(self, scores: Mapping[str, float]) -> None:
        """After an evaluation on the validation split."""
        shown = "   ".join(f"{name} {value:.4f}" for name, value in scores.items() if value is not None)
        self._say(f"validation  {shown}")
        accuracy = scores.get("accuracy")
        if accuracy is None or self._majority is None:
            return
        name, count = self._majority
        if accuracy <= count / self._rows + NEAR_MAJORITY:
            ways = ["train longer", "raise training.learning_rate"]
            if self._recipe.task.takes_class_weights and self._recipe.training.class_weights is None:
                ways.append("weigh the classes with --set training.class_weights=balanced")
            self._tell(
                "majority",
                f"accuracy {accuracy:.3f} is no more than the answer `{name}` to every text would get "
                f"({count / self._rows:.3f}): {', '.join(ways[:-1])}, or {ways[-1]}",
            )

    def _tell(self, kind: str, line: str) -> None:
        if kind not in self._told:
            self._told.add(kind)
            self._say(f"warning: {line}")

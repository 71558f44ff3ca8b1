"""The augmentation of a recipe's training rows: whether the task allows it, and the rows."""

from __future__ import annotations

from dataclasses import replace

from peftlab.core.config import Document
from peftlab.core.errors import UnsupportedError
from peftlab.core.splits import Split
from peftlab.data.augmenting import changed_copies, join_rows
from peftlab.data.duplicates import text_key
from peftlab.data.splits import LoadedData, fingerprint
from peftlab.preparation.places import at_place
from peftlab.recipe.schema import Recipe


def check_augmentation(recipe: Recipe, document: Document) -> None:
    """Refuse an augmentation of rows whose labels depend on more than the sense of their texts.

    Raises:
        UnsupportedError: With the task's reason.
    """
    task = recipe.task
    if recipe.data is None or not recipe.data.augmentation or task.takes_augmentation:
        return
    with at_place(document, ("data", "augmentation")):
        raise UnsupportedError(
            f"the task {task.registered_name} takes no augmentation: {task.why_not_augmented}",
            hint="Leave data.augmentation empty.",
        )


def augmented(data: LoadedData, recipe: Recipe) -> LoadedData:
    """The data with changed copies of the training rows, and counts of them in the notes.

    The summary's fingerprint and rows stay those of the source's rows, so that runs with and without augmentation are
    compared as runs on the same data.
    """
    if recipe.data is None or not recipe.data.augmentation:
        return data
    task = recipe.task

    def keys(split: Split) -> list[bytes]:
        return [text_key(texts) for texts in task.compared_texts(split)]

    copies, counts = changed_copies(data.splits, recipe.data.augmentation, task.text_columns(), keys, seed=recipe.seed)
    changes = {"notes": {**data.summary.notes, **counts}, "added_rows_fingerprint": fingerprint({"train": copies})}
    train = join_rows([data.splits["train"], copies])
    summary = data.summary.model_copy(update=changes)
    return replace(data, splits={**data.splits, "train": train}, summary=summary)

"""The augmentation of a recipe's rows: whether the task allows it, and the rows.

Copies that need neither a model nor a teacher are made when the data is loaded. The others wait for the run: see
:mod:`peftlab.run.augmentation`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from peftlab.core.augmentation import Augmentation, ModelAugmentation
from peftlab.core.config import Document
from peftlab.core.errors import ConfigError, UnsupportedError
from peftlab.core.model_facts import ModelFacts
from peftlab.core.reporter import ProgressCallback
from peftlab.core.splits import Split
from peftlab.data.augmenting import Agrees, Change, change_each, changed_copies, join_rows
from peftlab.data.columns import take
from peftlab.data.data_config import SplitSources
from peftlab.data.duplicates import text_key
from peftlab.data.splits import LoadedData, fingerprint
from peftlab.preparation.augmentation_models import check_needed
from peftlab.preparation.places import at_place
from peftlab.preparation.pretraining import facts_after
from peftlab.recipe.schema import Recipe

PATH = ("data", "augmentation")


def is_made_at_once(augmentation: Augmentation) -> bool:
    """Whether copies can be made from the rows alone."""
    return augmentation.keep_if is None and not isinstance(augmentation, ModelAugmentation)


def check_augmentation(recipe: Recipe, document: Document) -> None:
    """Refuse an augmentation of rows whose labels depend on more than the sense of their texts.

    Raises:
        ConfigError: There are no rows for it.
        UnsupportedError: With the task's reason.
    """
    task = recipe.task
    if recipe.data is None or not recipe.data.augmentation:
        return
    with at_place(document, PATH):
        if not task.takes_augmentation:
            raise UnsupportedError(
                f"the task {task.registered_name} takes no augmentation: {task.why_not_augmented}",
                hint="Leave data.augmentation empty.",
            )
    source = recipe.data.source
    has_unlabeled = isinstance(source, SplitSources) and source.unlabeled is not None
    compares = any(each.needs_unlabeled for each in recipe.training.regularizers)
    for position, each in enumerate(recipe.data.augmentation):
        with at_place(document, (*PATH, position, "keep_if")):
            if each.keep_if is not None and not task.has_class_probabilities:
                raise UnsupportedError(
                    f"a teacher agrees by classes, and a row of {task.registered_name} does not have just one",
                    hint="Leave keep_if out.",
                )
        with at_place(document, (*PATH, position, "rows")):
            if each.rows == "unlabeled" and not (has_unlabeled and compares):
                raise ConfigError(
                    "nothing learns from copies of texts without labels"
                    if has_unlabeled
                    else "there are no texts without labels to change",
                    hint="Name them as data.source.unlabeled, and add a regularizer such as "
                    "`training: {regularizers: [{type: uda}]}`.",
                )


def check_augmentation_models(
    recipe: Recipe, base: ModelFacts, document: Document, *, offline: bool, report: ProgressCallback
) -> None:
    """See that every augmentation has the models that it needs.

    Raises:
        UserError: One is not there, or is of another kind.
    """
    for position, each in enumerate(recipe.data.augmentation if recipe.data is not None else ()):
        base = facts_after(recipe, base)
        needed = each.needed_models() if isinstance(each, ModelAugmentation) else {}
        for key, model in needed.items():
            with at_place(document, (*PATH, position, key)):
                name = each.registered_name
                check_needed(model, name, base, offline=offline, report=report, folder=document.folder)


def augmented(
    data: LoadedData,
    recipe: Recipe,
    *,
    wanted: Callable[[Augmentation], bool] = is_made_at_once,
    change: Change = change_each,
    agrees: Agrees | None = None,
) -> LoadedData:
    """The data with changed copies, and counts of them in the notes.

    The summary's fingerprint and rows stay those of the source's rows, so that runs with and without augmentation are
    compared as runs on the same data.

    Args:
        data: Its rows, and copies that were made before.
        recipe: Names the augmentations.
        wanted: Which of them to make.
        change: Lets an augmentation change texts.
        agrees: See ``Augmentation.keep_if``.
    """
    chosen = dict(enumerate(recipe.data.augmentation)) if recipe.data is not None else {}
    chosen = {number: each for number, each in chosen.items() if wanted(each)}
    of_train = {number: each for number, each in chosen.items() if each.rows == "train"}
    of_pool = {number: each for number, each in chosen.items() if each.rows == "unlabeled"}
    columns, seed = recipe.task.text_columns(), recipe.seed

    def keys(split: Split) -> list[bytes]:
        return [text_key(texts) for texts in recipe.task.compared_texts(split)]

    splits = list(data.splits.values())
    if of_train:
        copies, counts = changed_copies(
            source_rows(data), splits, of_train, columns, keys, seed=seed, change=change, agrees=agrees
        )
        data = _noted(data, counts, "augmented_rows", copies)
        data = replace(data, splits={**data.splits, "train": join_rows([data.splits["train"], copies])})
    if of_pool and data.unlabeled is not None:
        earlier = [] if data.unlabeled_copies is None else [data.unlabeled_copies]
        copies, counts = changed_copies(
            data.unlabeled,
            [*splits, *earlier],
            of_pool,
            columns,
            keys,
            seed=seed,
            change=change,
            agrees=agrees,
        )
        data = _noted(data, counts, "augmented_unlabeled_rows", copies)
        data = replace(data, unlabeled_copies=join_rows([*earlier, copies]))
    return data


def source_rows(data: LoadedData) -> Split:
    """The training rows of the source, without copies: they come first."""
    train = data.splits["train"]
    count = data.summary.rows["train"]
    return train if count == len(train) else take(train, range(count))


def _noted(data: LoadedData, counts: dict[str, int], name: str, copies: Split) -> LoadedData:
    """The data whose summary tells of the copies too."""
    notes = dict(data.summary.notes)
    for what, count in counts.items():
        notes[f"{name}_{what}"] = notes.get(f"{name}_{what}", 0) + count
    added = (data.summary.added_rows_fingerprint or "") + fingerprint({copies.name: copies})
    return replace(data, summary=data.summary.model_copy(update={"notes": notes, "added_rows_fingerprint": added}))

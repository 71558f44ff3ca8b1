"""The run that a recipe goes on from (``continues``): opened, compared with the recipe, and named in its record."""

from __future__ import annotations

from pathlib import Path

from peftlab.artifact.saved_run import SavedRun
from peftlab.core.config import replace_config
from peftlab.core.errors import DataError, UnsupportedError
from peftlab.core.method import Method
from peftlab.core.record import Earlier
from peftlab.core.splits import Split
from peftlab.recipe.schema import Recipe


def open_earlier(recipe: Recipe) -> SavedRun | None:
    """The run that a recipe goes on from; None: it begins with a base.

    Raises:
        UserError: There is no finished run.
    """
    return None if recipe.continues is None else SavedRun.open(Path(recipe.continues.run).expanduser())


def with_earlier_method(recipe: Recipe, earlier: SavedRun) -> Recipe:
    """The recipe with its method as it goes on from the earlier run's.

    Raises:
        UnsupportedError: The earlier run has another task, base or method, or rows that cannot be read again.
    """
    own, theirs = recipe.task, earlier.recipe.task
    for what, mine, other in (
        ("task", own.registered_name, theirs.registered_name),
        ("text columns", ", ".join(own.text_columns()), ", ".join(theirs.text_columns())),
        ("label columns", ", ".join(own.label_columns()), ", ".join(theirs.label_columns())),
    ):
        if mine != other:
            raise UnsupportedError(
                f"the earlier run has the {what} {other}, and this recipe {mine}",
                where="continues.run",
                hint="A run goes on with the same task and columns. To begin with its model, set `model.path` to it.",
            )
    if recipe.data is None or earlier.recipe.data is None:
        raise UnsupportedError(
            "the task makes its own data, so there are no new rows",
            where="continues",
            hint="Set `model.path` to the run.",
        )
    if recipe.continues is None or not recipe.continues.weights:
        return recipe
    _check_base(recipe, earlier)
    method: Method = recipe.method.after(earlier.recipe.method)
    return recipe if method is recipe.method else replace_config(recipe, method=method)


def _check_base(recipe: Recipe, earlier: SavedRun) -> None:
    """An adapter fits one base; a whole model is its own."""
    one, other = recipe.model.path, earlier.recipe.model.path
    if one != other and not earlier.is_whole:
        raise UnsupportedError(
            f"the earlier run was tuned from {other}, and this recipe has {one}",
            where="model.path",
            hint="Name the same base.",
        )


def check_classes(recipe: Recipe, split: Split, labels: tuple[str, ...]) -> None:
    """Refuse classes that the earlier run did not know.

    Raises:
        DataError: Naming the first one.
    """
    known = {name.casefold() for name in labels}
    new = sorted(name for name in recipe.task.classes(split) if name.casefold() not in known)
    if new:
        raise DataError(
            f"the class {new[0]!r} of the {split.name} split is new, and the earlier run's head has no place for it",
            where=split.source,
            hint="Tune a run on the old and the new rows together, or leave out the rows of new classes.",
        )


def describe_earlier(earlier: SavedRun) -> Earlier:
    """What the record says of the run."""
    return Earlier(
        run=earlier.name,
        folder=str(earlier.folder),
        started_at=earlier.record.started_at,
        weights_sha256=earlier.weights_sha256,
        fingerprint=earlier.record.data.fingerprint if earlier.record.data else "",
    )

"""The base of a run whose model a program gives: the checkpoint that holds the same weights, or a copy in the run.

The model itself is only read. What trains is loaded from the checkpoint, so that everything after the run (resuming,
predicting, reproducing, exporting) needs nothing but files.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from peftlab.core.config import Document, replace_config
from peftlab.core.errors import ConfigError, SourceError, UserError
from peftlab.core.record import RECIPE_NAME
from peftlab.core.reporter import ProgressCallback
from peftlab.data.given import GIVEN_MODEL
from peftlab.data.locations import parse_location, resolve_location
from peftlab.preparation.check import CheckedRecipe
from peftlab.recipe.schema import Recipe
from peftlab.run.run_folder import BASE_NAME, RunFolder


@dataclass(frozen=True)
class GivenBase:
    """A recipe whose ``model.path`` is a checkpoint.

    Args:
        recipe: With that path.
        copied: The copy that was made; None: there was a checkpoint with these weights.
    """

    recipe: Recipe
    copied: Path | None = None

    def moved_into(self, folder: RunFolder, checked: CheckedRecipe) -> CheckedRecipe:
        """Put the copy into the run's folder, and name it there."""
        if self.copied is None:
            return checked
        place = (folder.path / BASE_NAME).resolve()
        self.copied.replace(place)
        model = replace_config(checked.recipe.model, path=str(place))
        return replace(
            checked,
            recipe=replace_config(checked.recipe, model=model),
            model_location=place,
            facts=replace(checked.facts, path=str(place)),
        )


@contextlib.contextmanager
def given_base(
    recipe: Recipe, model: Any, tokenizer: Any, *, document: Document, output_dir: Path | None, say: ProgressCallback
) -> Iterator[GivenBase]:
    """The recipe for a model that a program may have given.

    Args:
        recipe: Its ``model.path`` is ``python:model``, or names the checkpoint that holds the same weights.
        model: Of transformers; None: none is given.
        tokenizer: Its tokenizer; None: that of the checkpoint.
        document: For the places in messages.
        output_dir: Of the run; a copy is made beside it first.
        say: Is told which it is.

    Raises:
        UserError: The model cannot be the base of a run, or is not the one that the recipe names.
    """
    if model is None:
        _check_none_is_needed(recipe, tokenizer, document)
        yield GivenBase(recipe)
        return
    from peftlab.models.given_model import check_given_model, write_given_model

    check_given_model(model, tokenizer)
    if recipe.model.from_config is not None:
        raise ConfigError(
            "the recipe starts from nothing, and a model is given", where=document.where(("model", "from_config"))
        )
    assert output_dir is not None  # noqa: S101 - the caller has chosen one
    path, reason = _checkpoint_of(recipe, model, tokenizer, document, output_dir, say)
    if not reason:
        yield GivenBase(_with_path(recipe, path))
        return
    if (output_dir / RECIPE_NAME).exists():
        raise _another(reason, output_dir)
    if tokenizer is None:
        raise ConfigError("a tokenizer is needed, since no checkpoint holds the model", where="tokenizer")
    staged = Path(tempfile.mkdtemp(dir=_existing_parent(output_dir), prefix=f".{recipe.name}-base."))
    try:
        write_given_model(model, tokenizer, staged / BASE_NAME)
        say(f"no checkpoint holds the model: it is copied into {output_dir / BASE_NAME}")
        yield GivenBase(_with_path(recipe, str(staged / BASE_NAME)), staged / BASE_NAME)
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def _check_none_is_needed(recipe: Recipe, tokenizer: Any, document: Document) -> None:
    if tokenizer is not None:
        raise ConfigError("a tokenizer is given without a model", where="tokenizer", hint="Give model=… too.")
    if recipe.model.path == GIVEN_MODEL:
        raise ConfigError(
            f"`{GIVEN_MODEL}` stands for a model that is given in Python",
            where=document.where(("model", "path")),
            hint="Give it: run_recipe(recipe, model=model, tokenizer=tokenizer).",
        )


def _checkpoint_of(
    recipe: Recipe, model: Any, tokenizer: Any, document: Document, output_dir: Path, say: ProgressCallback
) -> tuple[str, str]:
    """The checkpoint that holds the model's weights, and why there is none; one of the two is empty.

    Raises:
        UserError: The recipe names another model, or the run began with another.
    """
    from peftlab.models.given_model import why_another

    is_marked, earlier = recipe.model.path == GIVEN_MODEL, output_dir / BASE_NAME
    if is_marked and earlier.is_dir():
        if reason := why_another(model, tokenizer, str(earlier)):
            raise _another(reason, output_dir)
        return str(earlier.resolve()), ""
    name = str(getattr(model.config, "_name_or_path", "") or "") if is_marked else recipe.model.path
    source = _place_of(name, document, is_marked=is_marked)
    reason = "no checkpoint of it is here"
    if source:
        reason = why_another(model, tokenizer, source, revision=recipe.model.revision)
    if not reason:
        say(f"the model is the one of {name}: the run starts from there")
        return name, ""
    if is_marked:
        return "", reason
    raise UserError(
        f"the model that is given is not the one that the recipe names: {reason}",
        where=document.where(("model", "path")),
        hint=f"Write model={{'path': '{GIVEN_MODEL}'}} to tune it as it is; it is copied into the run's folder.",
    )


def _another(reason: str, output_dir: Path) -> UserError:
    return UserError(f"the model is not the one that this run began with: {reason}", where=str(output_dir))


def _with_path(recipe: Recipe, path: str) -> Recipe:
    return replace_config(recipe, model=replace_config(recipe.model, path=path))


def _place_of(name: str, document: Document, *, is_marked: bool) -> str:
    """What transformers loads a checkpoint from; empty where the model only claims to come from there."""
    if not name:
        return ""
    try:
        return str(resolve_location(parse_location(name, folder=document.folder), offline=True))
    except SourceError as error:
        if is_marked:
            return ""
        error.where = document.where(("model", "path"))
        raise


def _existing_parent(path: Path) -> Path:
    return next(parent for parent in path.resolve().parents if parent.is_dir())

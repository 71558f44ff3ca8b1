"""A recipe as a run writes it down."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from peftlab.core.augmentation import Augmentation, ModelAugmentation
from peftlab.core.config import Document, replace_config
from peftlab.data.data_config import SplitSources
from peftlab.data.data_folders import data_folders
from peftlab.data.locations import parse_location
from peftlab.models.character_tokenizer import CHARACTERS
from peftlab.preparation.places import at_place
from peftlab.recipe.schema import Recipe, resolve_recipe


def settle_recipe(recipe: Recipe, document: Document) -> Recipe:
    """The recipe as a run writes it down: every open value filled in, every path as it is from anywhere.

    Raises:
        ConfigError: The metric is not one of the task's.
    """
    with at_place(document, ("evaluation", "metric")):
        recipe = resolve_recipe(recipe)

    def absolute(address: str, further: Sequence[Path] = ()) -> str:
        location = parse_location(address, folder=document.folder, further=further)
        return str(location.path.resolve()) if location.path is not None and location.path.exists() else address

    with at_place(document, ("model", "path")):
        model = recipe.model
        given = {key: value for key, value in (("path", model.path), ("tokenizer", model.tokenizer)) if value}
        if model.tokenizer == CHARACTERS:
            del given["tokenizer"]
        places = {key: absolute(value) for key, value in given.items()}
        recipe = replace_config(recipe, model=replace_config(model, **places))
    if (teachers := recipe.training.distillation) is not None:
        with at_place(document, ("training", "distillation")):
            places_of_teachers = [absolute(each) for each in teachers.teachers]
            training = replace_config(
                recipe.training, distillation=replace_config(teachers, teachers=places_of_teachers)
            )
            recipe = replace_config(recipe, training=training)
    if recipe.continues is not None:
        with at_place(document, ("continues", "run")):
            run = absolute(recipe.continues.run)
            recipe = replace_config(recipe, continues=replace_config(recipe.continues, run=run))
    if recipe.data is None:
        return recipe
    with at_place(document, ("data", "source")):
        source, further = recipe.data.source, data_folders()
        if isinstance(source, str):
            source = absolute(source, further)
        elif isinstance(source, SplitSources):
            addresses = {name: value for name, value in dict(source).items() if isinstance(value, str)}
            source = replace_config(source, **{name: absolute(value, further) for name, value in addresses.items()})
        changes = {"source": source, "augmentation": [with_places(each, absolute) for each in recipe.data.augmentation]}
        return replace_config(recipe, data=replace_config(recipe.data, **changes))


def with_places(augmentation: Augmentation, absolute: Callable[[str], str]) -> Augmentation:
    """The augmentation whose models are named as they are from anywhere."""
    if not isinstance(augmentation, ModelAugmentation):
        return augmentation
    needed = augmentation.needed_models()
    return replace_config(augmentation, **{key: absolute(each.path) for key, each in needed.items() if each.path})

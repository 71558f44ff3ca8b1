"""Settings of a recipe that must go together, and packages that they need; no model and no data are looked at."""

from __future__ import annotations

import importlib.util

from peftlab.core.config import Document
from peftlab.core.errors import ConfigError, UnsupportedError
from peftlab.core.hooks import TrainingHooks
from peftlab.core.model_facts import Family, ModelFacts
from peftlab.core.task import Task
from peftlab.core.task_objective import TaskObjective
from peftlab.data.data_config import SplitSources
from peftlab.data.given import GivenRows
from peftlab.data.tables import usual_splits
from peftlab.models.facts import IMAGE_TEXT_MODELS
from peftlab.preparation.check_sharding import check_sharding
from peftlab.preparation.places import at_place
from peftlab.preparation.whole_batches import check_whole_batches
from peftlab.recipe.schema import Recipe
from peftlab.training.optimizer_choice import optimizer_class, schedule_config

TRACKER_MODULES = {"tensorboard": "tensorboard", "wandb": "wandb", "mlflow": "mlflow"}


def check_settings(recipe: Recipe, document: Document) -> None:
    """Check what a recipe says of packages, training and offloading.

    Raises:
        UserError: What is wrong, where, and how to mend it.
    """
    _check_packages(recipe, document)
    _check_training(recipe, document)
    if recipe.training.sharding is not None:
        with at_place(document, ("training", "sharding")):
            check_sharding(recipe)
    if recipe.model.offload is not None:
        with at_place(document, ("model", "offload")):
            _check_offload(recipe)


def check_family(task: Task, facts: ModelFacts) -> None:
    """Refuse a model of images for a task of texts, and the other way round; and models that do both as one.

    Raises:
        UnsupportedError: With what would go together.
    """
    if facts.family == "unknown" and "vision_config" in facts.config:
        raise UnsupportedError(
            f"{facts.path} ({facts.model_type}) reads images and texts together; peftlab supports no vision-language "
            "models but those with two towers, as CLIP has them",
            where="model.path",
            hint=f"Of these it knows {', '.join(sorted(IMAGE_TEXT_MODELS))}. For images alone choose a ViT-like model.",
        )
    if facts.family in task.families:
        return
    raise UnsupportedError(
        f"{task.registered_name} is a task of {_reads(next(iter(task.families)))}, and {facts.path} "
        f"({facts.model_type or 'of an unknown type'}) reads {_reads(facts.family)}",
        where="model.path",
        hint=_MODELS[_reads(next(iter(task.families)))],
    )


def _reads(family: Family) -> str:
    """What models of a family read."""
    return {"image": "images", "image_text": "images and texts"}.get(family, "texts")


_MODELS = {
    "images": "Choose a ViT-like model.",
    "images and texts": "Choose a model with two towers, such as CLIP.",
    "texts": "Choose a model that reads texts; for one of images there is the task image_classification, for one with "
    "two towers image_text_embedding.",
}


def check_positions(recipe: Recipe, facts: ModelFacts) -> None:
    """Virtual tokens and the longest text must fit into the model's positions together.

    Raises:
        ConfigError: They do not.
        UnsupportedError: The task's settings do not go with virtual tokens.
    """
    extra, longest = recipe.method.extra_positions(), getattr(recipe.task, "max_length", None)
    if extra and not recipe.task.supports_virtual_tokens:
        raise UnsupportedError(
            f"{recipe.method.registered_name} puts virtual tokens before the text, which does not go with this task's "
            "settings (positions of its own, or several examples in a row)",
            hint="Choose another method, or the task's plain settings.",
        )
    if extra and longest is not None and facts.max_length is not None and extra + longest > facts.max_length:
        raise ConfigError(
            f"{extra} virtual tokens and texts of up to {longest} tokens do not fit into the model's "
            f"{facts.max_length} positions",
            where="task.max_length",
            hint=f"Set it to {max(1, facts.max_length - extra)} or less.",
        )


def _check_packages(recipe: Recipe, document: Document) -> None:
    for tracker in recipe.tracking:
        if importlib.util.find_spec(TRACKER_MODULES[tracker]) is None:
            raise ConfigError(
                f"the tracker `{tracker}` is not installed",
                where=document.where(("tracking",)),
                hint=f"pip install 'peftlab[{tracker}]'",
            )
    optimizer = optimizer_class(recipe.training.optimizer)
    if optimizer.package and importlib.util.find_spec(optimizer.package.replace("-", "_")) is None:
        raise ConfigError(
            f"the optimizer `{optimizer.registered_name}` needs {optimizer.package}, which is not installed",
            where=document.where(("training", "optimizer")),
            hint=f"pip install {optimizer.package}, or choose `adamw`.",
        )


def check_untrained(recipe: Recipe, labels: tuple[str, ...], document: Document) -> None:
    """Refuse a run without a step whose head would be left as it was drawn.

    Args:
        recipe: With what the task has learned.
        labels: Names of the classes.
        document: For the place.

    Raises:
        ConfigError: With what to do.
    """
    task = recipe.task
    if recipe.training.max_steps == 0 and task.head(labels).is_new and type(task).fit_head is TaskObjective.fit_head:
        raise ConfigError(
            f"{task.registered_name} puts a new head on the model, which says nothing before it has learned",
            where=document.where(("training", "max_steps")),
            hint="Train for some steps, or choose a task without a new head, such as prompt_classification.",
        )


def _check_training(recipe: Recipe, document: Document) -> None:
    with at_place(document, ("training",)):
        check_whole_batches(recipe)
    if recipe.training.gradient_checkpointing and not recipe.method.supports_gradient_checkpointing:
        raise UnsupportedError(
            f"the method {recipe.method.registered_name} does not work with gradient checkpointing",
            where=document.where(("training", "gradient_checkpointing")),
            hint="Set it to false.",
        )
    _check_optimizer(recipe, document)
    _check_unlabeled(recipe, document)
    _check_pruning(recipe, document)
    for position, regularizer in enumerate(recipe.training.regularizers):
        if regularizer.needs_validation and not _has_validation(recipe):
            raise ConfigError(
                f"{regularizer.registered_name} chooses by a validation split, and there is none",
                where=document.where(("training", "regularizers", position)),
                hint="Set data.validation_fraction.",
            )
        for key in ("batch_size", "micro_batch_size"):
            size = getattr(recipe.training, key)
            if isinstance(size, int) and size < regularizer.least_batch:
                raise ConfigError(
                    f"{regularizer.registered_name} does nothing with {size} example at once",
                    where=document.where(("training", key)),
                    hint=f"Set it to {regularizer.least_batch} at least, or leave {regularizer.registered_name} out.",
                )
    if recipe.training.early_stopping_patience is not None and not _has_validation(recipe):
        raise ConfigError(
            "early stopping needs a validation split",
            where=document.where(("training", "early_stopping_patience")),
            hint="Set data.validation_fraction.",
        )
    if recipe.task.learns_answers and not _has_validation(recipe):
        key = next((name for name in recipe.task.answer_keys if name in type(recipe.task).model_fields), "type")
        raise ConfigError(
            f"`{key}` is chosen on a validation split, and there is none",
            where=document.where(("task", key)),
            hint="Set data.validation_fraction, or leave the key out.",
        )


def _check_unlabeled(recipe: Recipe, document: Document) -> None:
    """Texts without labels and what learns from them must be there both, or none of the two."""
    source = None if recipe.data is None else recipe.data.source
    has_texts = isinstance(source, SplitSources) and source.unlabeled is not None
    learners: list[tuple[str | int, ...]] = [
        ("training", "regularizers", position)
        for position, each in enumerate(recipe.training.regularizers)
        if each.needs_unlabeled
    ]
    if recipe.training.self_training is not None:
        learners.append(("training", "self_training"))
    can_learn = bool(learners) or recipe.model.pretrain is not None
    if not can_learn and has_texts:
        raise ConfigError(
            "nothing learns from these texts without labels",
            where=document.where(("data", "source", "unlabeled")),
            hint="Add `training: {self_training: {rounds: 1}}`, a regularizer such as uda, or "
            "`model: {pretrain: {epochs: 10}}`; or leave them out.",
        )
    if learners and not has_texts:
        raise ConfigError(
            "there are no texts without labels to learn from",
            where=document.where(learners[0]),
            hint="Name them: `data: {source: {train: …, unlabeled: …}}`.",
        )
    if recipe.training.self_training is not None and not recipe.task.has_class_probabilities:
        raise UnsupportedError(
            f"texts get pseudo-labels where each has one class, and {recipe.task.registered_name} does not say that",
            where=document.where(("training", "self_training")),
            hint="Choose a task such as text_classification, with one label a text.",
        )
    _check_copies(recipe, document)


def _check_copies(recipe: Recipe, document: Document) -> None:
    """What compares texts with their changed copies needs copies."""
    entries = () if recipe.data is None else recipe.data.augmentation
    for position, each in enumerate(recipe.training.regularizers):
        if each.needs_unlabeled and not any(entry.rows == "unlabeled" for entry in entries):
            raise ConfigError(
                f"{each.registered_name} compares texts without labels with changed copies, and nothing changes them",
                where=document.where(("training", "regularizers", position)),
                hint="Add some: `data: {augmentation: [{type: token_dropout, rows: unlabeled}]}`.",
            )


def _check_pruning(recipe: Recipe, document: Document) -> None:
    """Labels look wrong by the probabilities of classes, one of which a row has."""
    if recipe.data is None or recipe.data.prune is None or recipe.task.has_class_probabilities:
        return
    raise UnsupportedError(
        f"labels look wrong where each row has one class, and {recipe.task.registered_name} does not say that",
        where=document.where(("data", "prune")),
        hint="Leave it out, or choose a task such as text_classification, with one label a text.",
    )


def _check_optimizer(recipe: Recipe, document: Document) -> None:
    optimizer, where = optimizer_class(recipe.training.optimizer), document.where(("training", "optimizer"))
    name = optimizer.registered_name
    if optimizer.needs_trained_base and not recipe.method.trains_base:
        raise UnsupportedError(
            f"{name} saves states of whole matrices, of which {recipe.method.registered_name} trains none",
            where=where,
            hint="Choose `adamw_8bit`, or the method `full`.",
        )
    if not optimizer.averages:
        return
    schedule = schedule_config(recipe.training.schedule).registered_name
    if schedule != "constant":
        raise ConfigError(
            f"{name} averages its weights in the place of a schedule, and `{schedule}` would be a second one",
            where=document.where(("training", "schedule")),
            hint="Set training.schedule to constant.",
        )
    for position, each in enumerate(recipe.training.regularizers):
        if type(each).weights_to_keep is not TrainingHooks.weights_to_keep:
            raise UnsupportedError(
                f"{name} and the regularizer `{each.registered_name}` both say which weights are kept",
                where=document.where(("training", "regularizers", position)),
                hint="Leave one of them out.",
            )


def unheeded_rate(recipe: Recipe) -> str | None:
    """What is to be said of an optimizer whose steps do not follow the rate; None: nothing.

    One that averages its weights has no schedule, and its warm-up counts.
    """
    training, optimizer = recipe.training, optimizer_class(recipe.training.optimizer)
    has_schedule = schedule_config(training.schedule).registered_name != "constant"
    if optimizer.follows_rate or not (has_schedule or (training.warmup_fraction > 0 and not optimizer.averages)):
        return None
    return (
        f"steps of the optimizer {optimizer.registered_name} do not follow the learning rate, or follow it late, so "
        "training.schedule and training.warmup_fraction count only in part; adamw's follow it"
    )


def _check_offload(recipe: Recipe) -> None:
    """What the backward pass keeps would hold the whole base, if blocks were not computed anew."""
    recipe.method.check_offload()
    if not recipe.training.gradient_checkpointing:
        raise ConfigError(
            "an offloaded base needs gradient checkpointing, or the backward pass keeps every matrix on the device",
            hint="Set training.gradient_checkpointing to true.",
        )


def _has_validation(recipe: Recipe) -> bool:
    if recipe.data is None:
        return True
    source = recipe.data.source
    is_given = isinstance(source, SplitSources) and source.validation is not None
    if isinstance(source, GivenRows):
        is_given = "validation" in usual_splits(source.tables)
    return is_given or recipe.data.validation_fraction > 0 or bool(recipe.data.splits)

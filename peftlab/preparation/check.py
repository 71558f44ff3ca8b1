"""Everything about a recipe that can be checked without loading weights, and without torch.

``peftlab validate`` stops here; ``peftlab run`` goes on from here.
"""

from __future__ import annotations

import contextlib
import importlib.util
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from peftlab.artifact.saved_folder import is_run
from peftlab.artifact.saved_run import SavedRun
from peftlab.core.config import Document, KeyPath, replace_config
from peftlab.core.errors import ConfigError, DataError, PeftlabError, UnsupportedError
from peftlab.core.model_facts import ModelFacts
from peftlab.core.reporter import ProgressCallback, Reporter, Silent
from peftlab.core.splits import Split
from peftlab.data.data_config import SplitSources
from peftlab.data.given import GivenRows
from peftlab.data.locations import parse_location, resolve_location
from peftlab.data.splits import LoadedData, load_splits, summarise_splits
from peftlab.data.tables import usual_splits
from peftlab.models.facts import read_model_facts
from peftlab.models.gguf import converted_folder
from peftlab.models.new import facts_of_new_model
from peftlab.models.quantization import check_quantization
from peftlab.models.tokenizer_facts import can_check_vocabulary, check_vocabulary, read_tokenizer_facts
from peftlab.preparation.metric_choice import choose_metric
from peftlab.preparation.whole_batches import check_whole_batches
from peftlab.recipe.schema import Recipe, resolve_recipe, with_learned

TRACKER_MODULES = {"tensorboard": "tensorboard", "wandb": "wandb", "mlflow": "mlflow"}


@dataclass(frozen=True)
class CheckedModel:
    """A recipe whose model is known, and can be tuned as it says.

    Args:
        recipe: With every open value filled in.
        model_location: The model's folder or file, or its Hub id; None: it starts from nothing.
        facts: What is known of the model.
        names_metric: Whether the metric is the user's choice, and not the task's default.
    """

    recipe: Recipe
    model_location: Path | str | None
    facts: ModelFacts
    names_metric: bool = True


@dataclass(frozen=True)
class CheckedRecipe(CheckedModel):
    """A recipe that can run.

    Args:
        data: The splits.
        labels: Names of the classes.
    """

    data: LoadedData = field(kw_only=True)
    labels: tuple[str, ...] = field(kw_only=True)


def check_recipe(
    recipe: Recipe, document: Document, *, offline: bool, reporter: Reporter | None = None
) -> CheckedRecipe:
    """Check a recipe against the model and the data that it names; wheels are fetched into the cache for that.

    Args:
        recipe: From :func:`peftlab.recipe.schema.load_recipe`.
        document: Where it was read from, for the places in messages.
        offline: Allow no network.
        reporter: Is told of downloads.

    Raises:
        UserError: What is wrong, where, and how to mend it.
    """
    checked = check_model(recipe, document, offline=offline, reporter=reporter)
    return check_data(checked, document, offline=offline, reporter=reporter)


def check_model(
    recipe: Recipe,
    document: Document,
    *,
    offline: bool,
    reporter: Reporter | None = None,
    need_weights: bool = True,
) -> CheckedModel:
    """Check all but the data.

    Args:
        recipe: From :func:`peftlab.recipe.schema.load_recipe`.
        document: Where it was read from.
        offline: Allow no network.
        reporter: Is told of downloads.
        need_weights: Whether a model's folder must hold weights.

    Raises:
        UserError: What is wrong, where, and how to mend it.
    """
    for note in document.notes:
        (reporter or Silent()).say(note)
    names_metric = recipe.evaluation.metric is not None
    recipe = settle_recipe(recipe, document)
    _check_packages(recipe, document)
    _check_training(recipe, document)
    with at_place(document, ("model",) if recipe.model.from_config else ("model", "path")):
        model_location, facts = _find_model(
            recipe, document, offline=offline, report=(reporter or Silent()).say, need_weights=need_weights
        )
    with at_place(document, ("model", "path")):
        check_vocabulary(facts, recipe.model.add_tokens)
        if model_location is not None and not can_check_vocabulary(facts):
            (reporter or Silent()).say(
                f"{facts.path}: its tokenizer cannot be read yet; whether every token has an embedding is checked "
                "when the run loads it"
            )
    with at_place(document, ("task",)):
        recipe.task.check(facts)
    with at_place(document, ("model", "quantization")):
        check_quantization(recipe.model, facts)
        if recipe.model.quantization is not None:
            recipe.method.check_quantization(recipe.model.quantization)
    if recipe.model.offload is not None:
        with at_place(document, ("model", "offload")):
            _check_offload(recipe)
    if recipe.model.add_tokens:
        with at_place(document, ("model", "add_tokens")):
            recipe.method.check_added_tokens()
    with at_place(document, ("method",)):
        recipe.method.check(replace(facts, peft_task_type=recipe.task.peft_task_type))
        _check_positions(recipe, facts)
    for position, regularizer in enumerate(recipe.training.regularizers):
        with at_place(document, ("training", "regularizers", position)):
            regularizer.check(recipe.task, recipe.method, facts)
    return CheckedModel(recipe, model_location, facts, names_metric)


def check_data(
    checked: CheckedModel, document: Document, *, offline: bool, reporter: Reporter | None = None
) -> CheckedRecipe:
    """Load the splits of a checked recipe, and check them against its task.

    Raises:
        UserError: What is wrong with the data, and where.
    """
    recipe = checked.recipe
    with at_place(document, ("data",) if recipe.data is not None else ("task",)):
        data = load_data(recipe, folder=document.folder, offline=offline, report=(reporter or Silent()).say)
        recipe = with_learned(recipe, recipe.task.learn(data.splits["train"]))
        labels = recipe.task.learn_labels(data.splits["train"])
        for split in data.splits.values():
            try:
                recipe.task.check_split(split, labels)
            except DataError:
                _name_lost_class(data, split, recipe)
                raise
            if checked.facts.tokenizer is not None:
                recipe.task.check_tokenizer(split, checked.facts.tokenizer)
        data = _with_notices(data, recipe, labels, (reporter or Silent()).say)
    with at_place(document, ("evaluation", "metric")):
        recipe = choose_metric(recipe, data, labels, (reporter or Silent()).say, is_named=checked.names_metric)
    return CheckedRecipe(recipe, checked.model_location, checked.facts, checked.names_metric, data=data, labels=labels)


def _name_lost_class(data: LoadedData, split: Split, recipe: Recipe) -> None:
    """Say what has taken the training rows of a class that a split still has.

    Raises:
        DataError: Naming the class and the key.
    """
    found = sorted(set(data.lost_classes) & set(recipe.task.classes(split))) if split.name != "train" else []
    if found:
        raise DataError(
            f"the {split.name} split has the class {found[0]!r}, which is in the source's training rows too, but "
            f"{data.lost_classes[found[0]]} leaves none of them",
            where=split.source,
            hint="Keep more training rows, or leave this class out of the data.",
        )


def _with_notices(data: LoadedData, recipe: Recipe, labels: tuple[str, ...], say: ProgressCallback) -> LoadedData:
    """Tell and note how the labels were understood."""
    notices = recipe.task.notices(data.splits, labels)
    if data.lost_classes:
        shown = ", ".join(f"{name!r} ({key})" for name, key in sorted(data.lost_classes.items())[:5])
        notices["classes_lost"] = f"no training row is left of {shown}: the model cannot learn it"
    for notice in notices.values():
        say(notice)
    summary = data.summary.model_copy(update={"notes": {**data.summary.notes, **notices}})
    return replace(data, summary=summary)


def _find_model(
    recipe: Recipe, document: Document, *, offline: bool, report: ProgressCallback, need_weights: bool
) -> tuple[Path | str | None, ModelFacts]:
    """The base model's place (None: it starts from nothing), and what is known of it."""
    model = recipe.model
    if model.from_config is not None:
        if not recipe.method.trains_base:
            raise UnsupportedError(
                f"a model that starts from nothing has nothing that {recipe.method.registered_name} could build on",
                where="method.type",
                hint="Choose the method `full`; adapt what that run leaves in a second recipe.",
            )
        facts = facts_of_new_model(model)
        if model.tokenizer is None:
            return None, facts
        place = resolve_location(
            parse_location(model.tokenizer, folder=document.folder), offline=offline, report=report
        )
        folder = converted_folder(place) if isinstance(place, Path) and place.suffix == ".gguf" else place
        tokenizer = None if folder is None else read_tokenizer_facts(folder, offline=offline)
        return None, replace(facts, tokenizer=tokenizer)
    location = parse_location(model.path, folder=document.folder)
    place = resolve_location(location, offline=offline, report=report)
    if isinstance(place, Path) and is_run(place):
        return place, SavedRun.open(place).facts(model.path)
    facts = read_model_facts(
        place, path=model.path, revision=model.revision, offline=offline, need_weights=need_weights
    )
    return place, facts


def load_data(recipe: Recipe, *, folder: Path | None = None, offline: bool, report: ProgressCallback) -> LoadedData:
    """The splits, from the source or made by the task.

    Args:
        recipe: Its data and its task.
        folder: Relative paths start here (the recipe's folder).
        offline: Allow no network.
        report: Is told of downloads.

    Raises:
        UserError: The data cannot be had, or cannot be used.
    """
    task = recipe.task
    if recipe.data is None:
        splits = task.make_splits(recipe.seed)
        return LoadedData(splits, summarise_splits(splits))
    return load_splits(
        recipe.data,
        seed=recipe.seed,
        text_columns=task.text_columns(),
        label_columns=task.label_columns(),
        strata=task.strata,
        arrange=lambda split: task.tidy_rows(task.arrange(split)),
        source_columns=task.source_columns(),
        optional_columns=task.optional_columns(),
        nullable_columns=task.nullable_columns(),
        number_columns=task.number_columns(),
        classes=task.classes,
        compared_texts=task.compared_texts,
        labels_are_texts=task.labels_are_texts,
        folder=folder,
        offline=offline,
        report=report,
    )


def settle_recipe(recipe: Recipe, document: Document) -> Recipe:
    """The recipe as a run writes it down: every open value filled in, every path as it is from anywhere.

    Raises:
        ConfigError: The metric is not one of the task's.
    """
    with at_place(document, ("evaluation", "metric")):
        recipe = resolve_recipe(recipe)

    def absolute(address: str) -> str:
        location = parse_location(address, folder=document.folder)
        return str(location.path.resolve()) if location.path is not None and location.path.exists() else address

    with at_place(document, ("model", "path")):
        model = recipe.model
        given = {key: value for key, value in (("path", model.path), ("tokenizer", model.tokenizer)) if value}
        places = {key: absolute(value) for key, value in given.items()}
        recipe = replace_config(recipe, model=replace_config(model, **places))
    if recipe.data is None:
        return recipe
    with at_place(document, ("data", "source")):
        source = recipe.data.source
        if isinstance(source, str):
            source = absolute(source)
        elif isinstance(source, SplitSources):
            addresses = {name: value for name, value in dict(source).items() if isinstance(value, str)}
            source = replace_config(source, **{name: absolute(value) for name, value in addresses.items()})
        return replace_config(recipe, data=replace_config(recipe.data, source=source))


def _check_packages(recipe: Recipe, document: Document) -> None:
    for tracker in recipe.tracking:
        if importlib.util.find_spec(TRACKER_MODULES[tracker]) is None:
            raise ConfigError(
                f"the tracker `{tracker}` is not installed",
                where=document.where(("tracking",)),
                hint=f"pip install 'peftlab[{tracker}]'",
            )
    if recipe.training.optimizer.endswith("8bit") and importlib.util.find_spec("bitsandbytes") is None:
        raise ConfigError(
            f"the optimizer `{recipe.training.optimizer}` needs bitsandbytes, which is not installed",
            where=document.where(("training", "optimizer")),
            hint="pip install bitsandbytes, or choose `adamw`.",
        )
    if recipe.training.optimizer == "galore_adamw" and importlib.util.find_spec("pytorch_optimizer") is None:
        raise ConfigError(
            "the optimizer `galore_adamw` needs pytorch-optimizer, which is not installed",
            where=document.where(("training", "optimizer")),
            hint="pip install 'peftlab[galore]', or choose `adafactor`.",
        )


def _check_training(recipe: Recipe, document: Document) -> None:
    with at_place(document, ("training",)):
        check_whole_batches(recipe)
    if recipe.training.gradient_checkpointing and not recipe.method.supports_gradient_checkpointing:
        raise UnsupportedError(
            f"the method {recipe.method.registered_name} does not learn under gradient checkpointing",
            where=document.where(("training", "gradient_checkpointing")),
            hint="Set it to false.",
        )
    if recipe.training.optimizer == "galore_adamw" and not recipe.method.trains_base:
        raise UnsupportedError(
            f"galore_adamw saves states of whole matrices, of which {recipe.method.registered_name} trains none",
            where=document.where(("training", "optimizer")),
            hint="Choose `adamw_8bit`, or the method `full`.",
        )
    if recipe.training.early_stopping_patience is not None and not _has_validation(recipe):
        raise ConfigError(
            "early stopping needs a validation split",
            where=document.where(("training", "early_stopping_patience")),
            hint="Set data.validation_fraction.",
        )


def _check_offload(recipe: Recipe) -> None:
    """What the backward pass keeps would hold the whole base, if blocks were not computed anew."""
    recipe.method.check_offload()
    if not recipe.training.gradient_checkpointing:
        raise ConfigError(
            "an offloaded base needs gradient checkpointing: else the backward pass keeps every matrix on the device",
            hint="Set training.gradient_checkpointing to true.",
        )


def _check_positions(recipe: Recipe, facts: ModelFacts) -> None:
    """Virtual tokens and the longest text must fit into the model's positions together."""
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


def _has_validation(recipe: Recipe) -> bool:
    if recipe.data is None:
        return True
    source = recipe.data.source
    is_given = isinstance(source, SplitSources) and source.validation is not None
    if isinstance(source, GivenRows):
        is_given = "validation" in usual_splits(source.tables)
    return is_given or recipe.data.validation_fraction > 0 or bool(recipe.data.splits)


_KEY = re.compile(r"(model|task|data|method|training|evaluation)(\.\w+)*")


@contextlib.contextmanager
def at_place(document: Document, path: KeyPath) -> Iterator[None]:
    """Put the recipe's file and line on errors that come from below, which know a key at most."""
    try:
        yield
    except PeftlabError as error:
        inner = error.where or ""
        if inner.startswith((document.source, "--set")):
            raise
        if isinstance(error, DataError) and document.values.get("data"):
            path = ("data",)  # whatever stage has met the row
        if _KEY.fullmatch(inner):
            error.where = document.where(tuple(inner.split(".")))
        else:
            error.where = f"{document.where(path)}: {inner}" if inner else document.where(path)
        raise

"""Everything about a recipe that can be checked without loading weights, and without torch.

``peftlab validate`` stops here; ``peftlab run`` goes on from here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from peftlab.core.config import Document, replace_config
from peftlab.core.errors import ConfigError, DataError, UnsupportedError
from peftlab.core.given_values import check_plain
from peftlab.core.model_facts import ModelFacts
from peftlab.core.regularizer import REGULARIZERS, TrainingSetup, check_past
from peftlab.core.reporter import Reporter, Silent
from peftlab.core.splits import Split
from peftlab.data.splits import LoadedData
from peftlab.models.quantization import check_quantization
from peftlab.models.tokenizer_facts import can_check_vocabulary, check_vocabulary
from peftlab.preparation.augment import augmented, check_augmentation, check_augmentation_models
from peftlab.preparation.check_settings import check_family, check_positions, check_settings, check_untrained
from peftlab.preparation.earlier_run import check_classes, open_earlier, with_earlier_method
from peftlab.preparation.find_model import find_model
from peftlab.preparation.load_data import load_data, name_lost_class, with_notices
from peftlab.preparation.metric_choice import choose_metric, silent_metrics
from peftlab.preparation.places import at_place
from peftlab.preparation.pretraining import check_pretraining, pretraining_recipe, pretraining_texts
from peftlab.preparation.settle_recipe import settle_recipe
from peftlab.preparation.teachers import check_teachers
from peftlab.recipe.schema import Recipe, with_learned
from peftlab.training.class_weights import check_class_names, check_class_weights


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
    reporter = reporter or Silent()
    for note in document.notes:
        reporter.say(note)
    names_metric = recipe.evaluation.metric is not None
    recipe = settle_recipe(recipe, document)
    with at_place(document, ("continues", "run")):
        earlier = open_earlier(recipe)
    if earlier is not None:
        with at_place(document, ("continues",)):
            recipe = with_earlier_method(recipe, earlier)
    check_settings(recipe, document)
    check_augmentation(recipe, document)
    with at_place(document, ("model",) if recipe.model.from_config else ("model", "path")):
        model_location, facts = find_model(
            recipe, document, offline=offline, report=reporter.say, need_weights=need_weights
        )
    if recipe.model.pretrain is not None:
        with at_place(document, ("model", "pretrain")):
            check_pretraining(recipe, facts)
            pretraining_recipe(recipe, facts)
    check_augmentation_models(recipe, facts, document, offline=offline, report=reporter.say)
    with at_place(document, ("model", "path")):
        check_vocabulary(facts, recipe.model.add_tokens)
        if model_location is not None and facts.family != "image" and not can_check_vocabulary(facts):
            reporter.say(
                f"{facts.path}: its tokenizer cannot be read yet; whether every token has an embedding is checked "
                "when the run loads it"
            )
    with at_place(document, ("task",)):
        check_family(recipe.task, facts)
        recipe.task.check(facts)
        recipe = _with_learned(recipe, recipe.task.learn_model(facts))
    with at_place(document, ("model", "quantization")):
        _check_quantization(recipe, facts)
    with at_place(document, ("model", "add_tokens")):
        _check_added_tokens(recipe, facts)
    with at_place(document, ("method",)):
        recipe.method.check(replace(facts, peft_task_type=recipe.task.peft_task()))
        check_positions(recipe, facts)
    with at_place(document, ("training", "class_weights")):
        check_class_weights(recipe.task, recipe.training.class_weights)
    if recipe.training.distillation is not None:
        with at_place(document, ("training", "distillation")):
            recipe.training.distillation.check(recipe.task)
            check_teachers(recipe)
    goes_on = recipe.continues is not None and recipe.continues.weights
    drops = recipe.has_dropout(facts.config)
    if drops and recipe.task.why_no_dropout:
        with at_place(document, ("model", "dropout")):
            raise ConfigError(recipe.task.why_no_dropout, hint="Set `model.dropout: 0`, and leave the method's out.")
    setup = TrainingSetup(recipe.task, recipe.method, facts, drops, goes_on)
    recipe = _with_what_comes(recipe, setup)
    for position, regularizer in enumerate(recipe.training.regularizers):
        with at_place(document, ("training", "regularizers", position)):
            check_past(regularizer, goes_on=goes_on)
            regularizer.check(setup)
    return CheckedModel(recipe, model_location, facts, names_metric)


def _check_quantization(recipe: Recipe, facts: ModelFacts) -> None:
    check_quantization(recipe.model, facts)
    if recipe.model.quantization is not None:
        recipe.method.check_quantization(recipe.model.quantization)
    elif recipe.method.needs_original:
        raise UnsupportedError(
            f"{recipe.method.registered_name} begins with what quantisation has lost, and this base is in full",
            hint="Set model.quantization to nf4 or fp4, or choose the method lora.",
        )


def _check_added_tokens(recipe: Recipe, facts: ModelFacts) -> None:
    if not recipe.model.add_tokens:
        return
    if facts.family == "encoder_decoder" and not recipe.method.trains_base:
        raise UnsupportedError(
            "an encoder-decoder reads tokens by two modules, and peftlab puts rows of added ones beside one",
            hint="Choose the method `full`, or leave model.add_tokens empty.",
        )
    if facts.family == "image_text":
        raise UnsupportedError("tokens are added to models that read texts alone", hint="Leave model.add_tokens empty.")
    recipe.method.check_added_tokens()


def _with_what_comes(recipe: Recipe, setup: TrainingSetup) -> Recipe:
    """The recipe with the regularisers that such a training has by itself."""
    given = recipe.training.regularizers
    named = {each.registered_name for each in given}
    more = [REGULARIZERS[name]() for name in REGULARIZERS if name not in named and REGULARIZERS[name].comes_with(setup)]
    if not more:
        return recipe
    return replace_config(recipe, training=replace_config(recipe.training, regularizers=[*given, *more]))


def check_data(
    checked: CheckedModel, document: Document, *, offline: bool, reporter: Reporter | None = None
) -> CheckedRecipe:
    """Load the splits of a checked recipe, and check them against its task.

    Raises:
        UserError: What is wrong with the data, and where.
    """
    recipe, reporter = checked.recipe, reporter or Silent()
    with at_place(document, ("data",) if recipe.data is not None else ("task",)):
        data = load_data(recipe, folder=document.folder, offline=offline, report=reporter.say)
        earlier = open_earlier(recipe)
        if earlier is None:
            recipe = _with_learned(recipe, {**recipe.task.learned, **recipe.task.learn(data.splits["train"])})
            labels = recipe.task.learn_labels(data.splits["train"])
        else:
            recipe = with_learned(recipe, {**recipe.task.learned, **earlier.recipe.task.learned})
            labels = earlier.labels
        recipe = _with_regularizers(recipe, data.splits["train"], document)
        check_untrained(recipe, labels, document)
        check_class_names(recipe.training.class_weights, labels)
        with at_place(document, ("training", "distillation")):
            check_teachers(recipe, labels)
        for split in data.splits.values():
            try:
                recipe.task.check_split(split, labels)
            except DataError:
                if earlier is not None:
                    check_classes(recipe, split, labels)
                name_lost_class(data, split, recipe)
                raise
            if checked.facts.tokenizer is not None:
                recipe.task.check_tokenizer(split, checked.facts.tokenizer)
        if recipe.model.pretrain is not None:
            pretraining_texts(data, recipe)
        data = augmented(with_notices(data, recipe, labels, reporter.say), recipe)
    with at_place(document, ("evaluation", "metric")):
        say = reporter.say
        recipe = choose_metric(recipe, data, labels, say, is_named=checked.names_metric)
        if "test" in data.splits:
            for sentence in silent_metrics(recipe.task, [str(recipe.evaluation.metric)], data.splits["test"], labels):
                say(f"test: {sentence}")
    return CheckedRecipe(recipe, checked.model_location, checked.facts, checked.names_metric, data=data, labels=labels)


def _with_learned(recipe: Recipe, learned: Mapping[str, Any]) -> Recipe:
    """The recipe, its task with what it has learned, of which a record can hold all.

    Raises:
        PluginError: It cannot.
    """
    check_plain(learned, what=f"what {recipe.task.registered_name} has learned")
    return with_learned(recipe, learned)


def _with_regularizers(recipe: Recipe, train: Split, document: Document) -> Recipe:
    """The recipe whose regularisers have looked at the training rows."""
    given, learned = recipe.training.regularizers, []
    for position, regularizer in enumerate(given):
        with at_place(document, ("training", "regularizers", position)):
            learned.append(regularizer.learn(train))
    if all(one is other for one, other in zip(given, learned, strict=True)):
        return recipe
    return replace_config(recipe, training=replace_config(recipe.training, regularizers=learned))

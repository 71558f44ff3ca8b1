"""The recipe that pre-trains a base on a run's own texts (``model.pretrain``)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from peftlab.core.config import replace_config
from peftlab.core.errors import DataError, UnsupportedError
from peftlab.core.model_facts import ModelFacts
from peftlab.core.splits import Split
from peftlab.data.columns import take
from peftlab.data.given import given_rows
from peftlab.data.splits import LoadedData, summarise_splits
from peftlab.models.pretraining import DEFAULT_EPOCHS
from peftlab.recipe.schema import Recipe, resolve_recipe, with_learned

TEXT = "text"
TASKS = {"encoder": "masked_lm", "decoder": "causal_lm"}
"""How a model of a family goes on with what it has learned."""
MODELS = {"encoder": "ForMaskedLM"}
"""How the name of an architecture ends that comes out of it, where that matters."""


def check_pretraining(recipe: Recipe, facts: ModelFacts) -> None:
    """Refuse a base that cannot be pre-trained.

    Raises:
        UnsupportedError: With the reason.
    """
    model = recipe.model
    if model.pretrain is None:
        return
    if model.from_config is not None:
        raise UnsupportedError(
            "a model that starts from nothing has nothing to go on with",
            hint="Train it by a recipe of the task masked_lm or causal_lm, and name that run as model.path.",
        )
    if recipe.data is None:
        raise UnsupportedError(
            f"{recipe.task.registered_name} makes its own data, which are no texts to read first",
            hint="Leave model.pretrain out.",
        )
    if facts.family not in TASKS:
        raise UnsupportedError(
            f"{facts.path} ({facts.model_type}) is neither a BERT-like nor a GPT-like model",
            hint="Leave model.pretrain out.",
        )
    if model.quantization is not None or model.offload is not None or model.add_tokens:
        raise UnsupportedError(
            "pre-training changes all weights of a plain base: no quantization, offload or add_tokens",
            hint="Pre-train by a recipe of its own, and name that run as model.path.",
        )


def facts_after(recipe: Recipe, facts: ModelFacts) -> ModelFacts:
    """What will be known of the base once it is pre-trained: it has its language model's head."""
    if recipe.model.pretrain is None or facts.family not in MODELS:
        return facts
    return replace(facts, config={**facts.config, "architectures": [MODELS[facts.family]]})


def pretraining_texts(data: LoadedData, recipe: Recipe) -> list[str]:
    """The texts of training rows and of those without labels, each once, in their order.

    Raises:
        DataError: A column holds something else than text.
    """
    train = data.splits["train"]
    rows = [take(train, range(data.summary.rows["train"])), *([] if data.unlabeled is None else [data.unlabeled])]
    found: dict[str, None] = {}
    for split in rows:
        for column in recipe.task.text_columns():
            for at, value in enumerate(split.columns[column]):
                words = value if isinstance(value, list | tuple) else [value]
                if not all(isinstance(word, str) for word in words):
                    raise DataError(
                        "model.pretrain reads plain texts, and this is none",
                        where=f"{split.where(at)}, column {column}",
                        hint="Leave model.pretrain out.",
                    )
                found[" ".join(words)] = None
    return list(found)


def pretraining_recipe(recipe: Recipe, facts: ModelFacts) -> Recipe:
    """The recipe of the run that comes first, without its data."""
    settings = recipe.model.pretrain
    assert settings is not None  # noqa: S101 - the caller has looked
    longest = min(settings.max_length, facts.max_length or settings.max_length)
    values: dict[str, Any] = {
        "name": f"{recipe.name}-pretraining",
        "seed": recipe.seed,
        "model": recipe.model.model_dump(mode="json", exclude={"pretrain"}),
        "task": {"type": TASKS[facts.family], "text": TEXT, "max_length": longest},
        "data": {"source": [{TEXT: ""}], "test_fraction": 0, "validation_fraction": 0},
        "method": {"type": "full"},
        "training": {
            "epochs": settings.epochs or (None if settings.max_steps else DEFAULT_EPOCHS),
            "max_steps": settings.max_steps,
            "batch_size": settings.batch_size,
            "learning_rate": settings.learning_rate,
            "precision": recipe.training.precision,
            "deterministic": recipe.training.deterministic,
            "gradient_checkpointing": recipe.training.gradient_checkpointing,
        },
        "measure": False,
    }
    found = resolve_recipe(Recipe.from_dict(values))
    found.task.check(facts)
    return with_learned(found, found.task.learn_model(facts))


def with_texts(recipe: Recipe, texts: list[str], source: str) -> tuple[Recipe, LoadedData]:
    """A pre-training recipe that names its texts, and the texts."""
    assert recipe.data is not None  # noqa: S101 - it has a section
    rows = given_rows([{TEXT: text} for text in texts], where="model.pretrain")
    splits = {"train": Split("train", range(len(texts)), {TEXT: texts}, source)}
    named = replace_config(recipe, data=replace_config(recipe.data, source=rows))
    return named, LoadedData(splits, summarise_splits(splits))

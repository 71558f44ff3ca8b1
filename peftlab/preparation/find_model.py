"""Where a recipe's base model is, and what is known of it before it is loaded."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from peftlab.artifact.saved_folder import is_run
from peftlab.artifact.saved_run import SavedRun
from peftlab.core.config import Document
from peftlab.core.errors import SourceError, UnsupportedError
from peftlab.core.model_facts import ModelFacts
from peftlab.core.record import run_of
from peftlab.core.reporter import ProgressCallback
from peftlab.data.locations import parse_location, resolve_location
from peftlab.models.character_tokenizer import CHARACTERS
from peftlab.models.facts import read_model_facts
from peftlab.models.gguf import converted_folder
from peftlab.models.new_model import facts_of_new_model
from peftlab.models.tokenizer_facts import read_tokenizer_facts
from peftlab.recipe.schema import Recipe

ADAPTER_CONFIG = "adapter_config.json"


def find_model(
    recipe: Recipe, document: Document, *, offline: bool, report: ProgressCallback, need_weights: bool
) -> tuple[Path | str | None, ModelFacts]:
    """The base model's place (None: it starts from nothing), and what is known of it.

    Raises:
        UserError: There is no such model, peftlab cannot read it, or the method cannot start from nothing.
    """
    model = recipe.model
    if model.from_config is not None:
        if not recipe.method.trains_base:
            raise UnsupportedError(
                f"a model that starts from nothing has nothing that {recipe.method.registered_name} could build on",
                where="method.type",
                hint="Choose the method `full`. A second recipe can adapt the model of that run.",
            )
        facts = facts_of_new_model(model)
        if model.tokenizer in (None, CHARACTERS):
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
    if isinstance(place, Path):
        _refuse_adapter(place, model.path)
    facts = read_model_facts(
        place, path=model.path, revision=model.revision, offline=offline, need_weights=need_weights
    )
    return place, facts


def _refuse_adapter(folder: Path, path: str) -> None:
    """Refuse a folder that holds an adapter: beside the config of its base there may be no weights but its own.

    Raises:
        SourceError: Naming what to give instead.
    """
    if not (folder / ADAPTER_CONFIG).is_file():
        return
    run = run_of(folder)
    if run != folder and is_run(run):
        hint = f"Give the run's folder, {run}: the new run then starts where that one ended."
    else:
        try:
            base = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8")).get("base_model_name_or_path")
        except (ValueError, AttributeError):
            base = None
        hint = f"Give its base, {base}." if base else "Give its base."
        hint += " To start where the adapter ended, merge it into the base first (peft's merge_and_unload)."
    raise SourceError("the folder holds an adapter, and no model", where=path, hint=hint)

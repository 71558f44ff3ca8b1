"""Pre-training of a run's base on the run's own texts; the base that comes out is kept in the run's folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from peftlab.core.config import replace_config
from peftlab.core.errors import UnsupportedError
from peftlab.core.record import MODEL
from peftlab.core.reporter import Reporter
from peftlab.models.facts import read_model_facts
from peftlab.models.pretraining import PRETRAINING
from peftlab.preparation.check import CheckedRecipe
from peftlab.preparation.pretraining import pretraining_recipe, pretraining_texts, with_texts
from peftlab.run.run_folder import RunFolder
from peftlab.run.side_runs import Execute, run_beside

NOTE = "pretraining"


def with_pretrained_base(
    checked: CheckedRecipe, folder: Path, execute: Execute, *, reporter: Reporter, processes: int
) -> CheckedRecipe:
    """The recipe on a base that has read its training texts, and those without labels.

    Args:
        checked: With its data.
        folder: The run's.
        execute: Runs the pre-training; it is not run again where it has ended.
        reporter: Tells a person.
        processes: That train together.

    Raises:
        RunFailedError: It has failed, or was stopped.
        UnsupportedError: There are several processes.
    """
    recipe = checked.recipe
    if recipe.model.pretrain is None:
        return checked
    if processes > 1:
        raise UnsupportedError(
            "the base is pre-trained in one process", where="model.pretrain", hint="Leave --processes out."
        )
    texts = pretraining_texts(checked.data, recipe)
    first, data = with_texts(
        pretraining_recipe(recipe, checked.facts), texts, f"the {len(texts)} texts of model.pretrain"
    )
    place = RunFolder(folder / PRETRAINING)
    name = f"pre-training on {len(texts)} texts, none of them of validation or test"
    before = replace(checked, recipe=first, data=data, labels=())
    record = run_beside(before, place, execute, reporter=reporter, name=name)
    base = (place.path / MODEL).resolve()
    model = replace_config(recipe.model, path=str(base), revision=None, pretrain=None)
    note = {"texts": len(texts), "steps": record.steps, "seconds": round(record.seconds, 1)}
    notes = {**checked.data.summary.notes, NOTE: [note]}
    return replace(
        checked,
        recipe=replace_config(recipe, model=model),
        model_location=base,
        facts=read_model_facts(base, path=str(base)),
        data=replace(checked.data, summary=checked.data.summary.model_copy(update={"notes": notes})),
    )

"""What the teachers of ``training.distillation`` say of the training rows: asked once, kept in the run's folder."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import torch
from safetensors.torch import save_file

from peftlab.artifact.saved_run import SavedRun
from peftlab.core.amounts import plural
from peftlab.core.errors import RunFailedError
from peftlab.core.files import atomic_file
from peftlab.core.splits import Split
from peftlab.core.task_objective import SOFT_TARGETS
from peftlab.data.splits import fingerprint
from peftlab.preparation.loading import Loader
from peftlab.preparation.teachers import open_teachers
from peftlab.run.ask_saved_run import ask_run
from peftlab.run.prepared import read_prepared, with_values
from peftlab.run.run_context import RunContext
from peftlab.training.distillation import soft_targets

ANSWERS = "distillation.safetensors"
NOTE = "distillation"


def learn_from_teachers(run: RunContext, loader: Loader) -> list[dict[str, Any]]:
    """Give each training example what the recipe's teachers say of it.

    Args:
        run: What all stages know.
        loader: Its training split gets the answers.

    Returns:
        What the record says of the teachers; empty where the recipe names none.

    Raises:
        RunFailedError: A teacher's answer is no number.
    """
    settings = run.recipe.training.distillation
    if settings is None:
        return []
    rows, teachers = run.checked.data.splits["train"], open_teachers(run.recipe)
    notes = [
        {
            "folder": str(each.folder),
            "name": each.name,
            "weights_sha256": each.weights_sha256,
            "scores": each.record.scores,
        }
        for each in teachers
    ]
    identity = [fingerprint({"train": rows}), settings.temperature, [note["weights_sha256"] for note in notes]]
    key = hashlib.sha256(json.dumps(identity).encode()).hexdigest()
    name, path = f"train/{SOFT_TARGETS}", run.folder.path / ANSWERS

    def answers() -> dict[str, torch.Tensor]:
        found = read_prepared(path, key)
        if found is None:
            found = {name: soft_targets([_ask(run, each, rows) for each in teachers], settings.temperature)}
            with atomic_file(path) as partial:
                save_file(found, partial, metadata={"identity": key})
        return found

    loader.splits["train"] = with_values(loader.splits["train"], run.world.first(answers))
    return notes


def _ask(run: RunContext, teacher: SavedRun, rows: Split) -> torch.Tensor:
    """A teacher's logits: rows × classes, on CPU."""
    run.reporter.say(f"asking the teacher {teacher.folder} about {plural(len(rows), 'training row')}")
    task = teacher.recipe.task
    found = ask_run(
        teacher,
        rows,
        lambda logits, batch: list(task.class_terms(logits, batch)[0].cpu()),
        device=run.device,
        offline=run.offline,
    )
    logits = torch.stack(found)
    if not bool(logits.isfinite().all()):
        raise RunFailedError("a teacher's answer is no number", where=str(teacher.folder))
    return logits

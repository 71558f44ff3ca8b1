"""What the processes of one run settle beside the training: that they are alike, and where they write."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from peftlab.core.changed_settings import changed_settings
from peftlab.core.errors import PeftlabError, RunFailedError, UnsupportedError, UserError
from peftlab.core.hooks import TrainingHooks
from peftlab.core.installed import installed_version
from peftlab.core.plugins import plugin_versions
from peftlab.core.record import ADAPTER, MODEL
from peftlab.preparation.check import CheckedRecipe
from peftlab.recipe.schema import Recipe
from peftlab.run.run_context import RunContext
from peftlab.training.world import World

PACKAGES = ("peftlab", "torch", "transformers", "peft")
CHUNK = 1 << 26
"""Bytes of a file that are sent at once."""
OWN_DRAWS = (
    "dropout, masks or what else is drawn while a batch is computed differs from that of another number of processes: "
    "each draws its own, from the seed, the step and its rank"
)


@contextlib.contextmanager
def own_folder(world: World, output_dir: Path | None) -> Iterator[Path | None]:
    """Where this process writes: the first one into the run's folder, the others into folders that nobody keeps."""
    if world.is_first:
        yield output_dir
        return
    with tempfile.TemporaryDirectory(prefix="peftlab-process-") as folder:
        yield Path(folder)


def check_same_work(world: World, checked: CheckedRecipe) -> None:
    """See that all processes have the same recipe, data and packages, and that they can share its batches.

    Raises:
        UserError: One has others; it says which process, and what.
        UnsupportedError: A batch of the task cannot be cut.
    """
    task = checked.recipe.task
    base = TrainingHooks.around_backward
    is_around = any(type(hook).around_backward is not base for hook in checked.recipe.training_hooks())
    if world.size > 1 and not task.divisible and (is_around or not task.caches_gradients):
        raise UnsupportedError(
            f"{task.registered_name} compares the examples of a batch with one another, and {world.size} processes "
            "would cut it",
            where="task.type",
            hint="Run it in one process.",
        )
    alone = [each for each in checked.recipe.training.regularizers if each.one_process]
    if world.size > 1 and alone:
        raise UnsupportedError(
            f"{alone[0].registered_name} works in one process only",
            where="training.regularizers",
            hint="Leave --processes out.",
        )
    _check_shares(world, checked.recipe)
    summary = checked.data.summary
    own = {
        "recipe": checked.recipe.model_dump(mode="json"),
        "data": summary.model_dump(include={"fingerprint", "added_rows_fingerprint", "rows"}),
        "labels": list(checked.labels),
        "versions": {**{name: installed_version(name) for name in PACKAGES}, **plugin_versions()},
    }
    found = world.gather(own)
    for what in own:
        for rank, other in enumerate(found):
            if changes := changed_settings(found[0][what], other[what], what if what != "recipe" else ""):
                changes = [change.replace(" was ", " is ", 1).replace(", is ", " there, and ", 1) for change in changes]
                raise UserError(
                    f"process {rank} has another {what.rstrip('s')} than process 0: {'; '.join(changes[:3])} here",
                    hint="Give all processes the same recipe, --set options, files and packages.",
                )


def _check_shares(world: World, recipe: Recipe) -> None:
    """Refuse regularizers that compare the examples of a batch, where the share of a process is too small for that."""
    size = recipe.training.batch_size
    for each in recipe.training.regularizers:
        least = each.least_batch * world.size
        if world.size > 1 and size is not None and size < least:
            raise UnsupportedError(
                f"{each.registered_name} does nothing with {size // world.size or 1} example at once, and that is what "
                f"{world.size} processes have of a batch of {size}",
                where="training.batch_size",
                hint=f"Set it to {least} at least, start fewer processes, or leave {each.registered_name} out.",
            )


def check_alike(world: World, values: Mapping[str, str], *, kind: type[PeftlabError] = RunFailedError) -> None:
    """See that something is the same in all processes.

    Args:
        world: The processes.
        values: By what they are.
        kind: Of the error.
    """
    found = world.gather(dict(values))
    for rank, other in enumerate(found):
        for what, value in found[0].items():
            if other[what] != value:
                raise kind(f"process {rank} has other {what} than process 0")


def copied_to_all(run: RunContext) -> Path:
    """The folder where a process finds ``adapter/`` or ``model/``: the run's, or on another machine a copy."""
    world, path = run.world, run.world.first(run.folder.path.resolve)
    files = world.first(lambda: _listing(path))
    if not world.any(_listing(path) != files):
        return path
    own = path if _listing(path) == files else run.folder.path
    for name, (size, _) in files.items():
        target = own / name
        is_missing = own != path
        if is_missing:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)
        for start in range(0, size, CHUNK):
            piece = world.first(lambda name=name, start=start: _piece(path / name, start))  # type: ignore[misc]
            if is_missing:
                with target.open("ab") as file:
                    file.write(piece)
    return own


def describe_world(world: World) -> dict[str, Any]:
    """What a record says of the processes."""
    return {
        "processes": world.size,
        "backend": world.backend,
        "sharding": "fsdp" if world.keeps_pace else None,
        "own_draws": OWN_DRAWS if world.has_own_draws else None,
    }


def _listing(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of each file of the artifact."""
    found = [file for part in (ADAPTER, MODEL) for file in sorted((folder / part).rglob("*")) if file.is_file()]
    return {str(file.relative_to(folder)): (file.stat().st_size, file.stat().st_mtime_ns) for file in found}


def _piece(path: Path, start: int) -> bytes:
    with path.open("rb") as file:
        file.seek(start)
        return file.read(CHUNK)

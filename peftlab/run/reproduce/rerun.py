"""``peftlab reproduce``: run a record's recipe again."""

from __future__ import annotations

import os
from pathlib import Path

from peftlab.artifact.saved_folder import naming_plugins
from peftlab.core.config import Document
from peftlab.core.devices import AUTO
from peftlab.core.errors import UserError
from peftlab.core.record import RECORD_NAME, RunRecord
from peftlab.core.reporter import Reporter
from peftlab.core.threads import is_set_by_user, keep_threads
from peftlab.models.remote_code import of_another_hand
from peftlab.packs.runs import read_run_predictions, read_run_record
from peftlab.recipe.schema import build_recipe
from peftlab.run.reproduce.records import Reproduction, compare_records
from peftlab.run.run import run_recipe
from peftlab.training.launch import refuse_several_processes


def reproduce(
    run: Path | str,
    *,
    output_dir: Path | str | None = None,
    offline: bool = False,
    device: str = AUTO,
    reporter: Reporter | None = None,
) -> Reproduction:
    """Run a record's recipe again, and compare.

    Args:
        run: The folder of a run that ended with success, or the path that it had before it was packed.
        output_dir: Of the run made again; None: ``runs/<name>-<UTC time>``.
        offline: Allow no network.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        reporter: Tells a person what is going on.

    Raises:
        UserError: There is no record of a successful run, or its predictions are damaged.
    """
    refuse_several_processes()
    run = Path(run)
    output_dir = None if output_dir is None else Path(output_dir)
    before, predictions = read_run_record(run), read_run_predictions(run)
    if before.status != "success":
        raise UserError(
            f"the run ended as `{before.status}`; only a successful run has scores to compare with",
            where=str(run),
        )
    if before.stopped_by is not None:
        raise UserError(
            f"its training was ended after step {before.steps} by {before.stopped_by}, a callback of a program's own",
            where=str(run),
            hint="Run its recipe.yaml again in Python, with the same callback.",
        )
    if before.soup is not None:
        raise UserError(
            "it was not trained: it is the mean of other runs' weights",
            where=str(run),
            hint="Reproduce its runs, which its record names under `soup`, and make the mean again by "
            "`peftlab ensemble`.",
        )
    document = Document(source=str(run / RECORD_NAME), values=of_another_hand(before.recipe), folder=run)
    with naming_plugins(before.environment.get("versions") or {}):
        recipe = build_recipe(document, default_name=before.name)
    _keep_threads(before)
    result = run_recipe(recipe, document, output_dir=output_dir, offline=offline, device=device, reporter=reporter)
    return compare_records(
        before,
        result.record,
        predictions=(predictions, read_run_predictions(result.folder)),
        make_scorer=lambda: recipe.scorer(tuple(before.labels or ())),
        folder=result.folder,
    )


def _keep_threads(record: RunRecord) -> None:
    """Compute with as many threads as the record, where there are so many cores and the user has not said how many."""
    count = record.environment.get("threads")
    if isinstance(count, int) and 0 < count <= (os.cpu_count() or 1) and not is_set_by_user():
        keep_threads(count, "as in the record")

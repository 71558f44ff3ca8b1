"""Methods of a suite with a router: when all have run, the runs of each sequence are scored together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from peftlab.bench.plan import Plan
from peftlab.core.errors import UserError
from peftlab.core.record import PARTS, Routed, read_record, write_record
from peftlab.core.reporter import Reporter, progress_bar


def route_sequences(plan: Plan, route: Callable[[Sequence[Path]], list[Routed]], reporter: Reporter) -> dict[str, str]:
    """Score the runs of each sequence with a router, where that is not done yet; their records keep the scores.

    Args:
        plan: Of the suite, which has run.
        route: Scores the runs in some folders, for each but the first.
        reporter: Shows the progress.

    Returns:
        Why runs could not be scored, by the name of the last one's folder.
    """
    chains = [chain for chain in plan.chains if chain[-1].router]
    wanted = [[plan.final(cell, seed).folder for cell in chain] for seed in plan.suite.seeds for chain in chains]
    missing = [folders for folders in wanted if _can_be_routed(folders)]
    failed: dict[str, str] = {}
    if not missing:
        return failed
    with progress_bar(reporter, "routed sequences", len(missing)):
        for folders in missing:
            try:
                found = route(folders)
            except UserError as error:
                failed[folders[-1].name] = error.message
                reporter.say(f"{folders[-1].name} could not be scored with a router: {error}")
            else:
                for folder, routed in zip(folders[1:], found, strict=True):
                    write_record(read_record(folder).model_copy(update={"routed": routed}), folder)
            reporter.advance(1)
    return failed


def _can_be_routed(folders: Sequence[Path]) -> bool:
    """Whether all have ended well, and one is without its scores; a pack has no weights to score."""
    records = [read_record(folder) for folder in folders]
    has_weights = all(any((folder / part).is_dir() for part in PARTS) for folder in folders)
    return (
        has_weights
        and all(record.status == "success" for record in records)
        and any(record.routed is None for record in records[1:])
    )

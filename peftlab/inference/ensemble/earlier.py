"""What an earlier call has made of the same runs, and was killed before it could say so."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from peftlab.artifact.saved_ensemble import SavedEnsemble
from peftlab.artifact.saved_run import SavedRun
from peftlab.core.errors import UserError
from peftlab.core.record import ENSEMBLE_NAME, RECORD_NAME

ALREADY = "{} holds what is to be made already, whole and of the same weights: nothing is left to do"


def earlier_ensemble(runs: Sequence[SavedRun], output: Path) -> SavedEnsemble | None:
    """The ensemble of these runs that is there; None where something else is, or one of other weights."""
    if not (output / ENSEMBLE_NAME).is_file():
        return None
    try:
        found = SavedEnsemble.open(output)
    except UserError:
        return None
    same = [member.record for member in found.members] == [run.record for run in runs]
    return found if same else None


def earlier_soup(runs: Sequence[SavedRun], kind: str, output: Path) -> SavedRun | None:
    """The soup of these runs that is there; None where something else is, or one of other weights."""
    if not (output / RECORD_NAME).is_file():
        return None
    try:
        found = SavedRun.open(output)
    except UserError:
        return None
    soup = found.record.soup
    if soup is None or soup.kind != kind:
        return None
    made_of = [(part.origin, part.weights_fingerprint) for part in soup.parts]
    wanted = [(str(run.folder), run.record.weights_fingerprint) for run in runs]
    return found if made_of == wanted and all(fingerprint for _, fingerprint in wanted) else None

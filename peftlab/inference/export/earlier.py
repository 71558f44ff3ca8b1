"""What an earlier call has made of the same, and was killed before it could say so."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from peftlab.artifact.export_formats import ExportFormat
from peftlab.artifact.saved_export import ExportDescription, MadeOf, SavedExport
from peftlab.artifact.saved_folder import EXPORT_NAME
from peftlab.artifact.saved_run import SavedRun
from peftlab.core.errors import UserError

ALREADY = "{} holds this export already, whole, checked and of the same weights: nothing is left to do"


def made_of(runs: Sequence[SavedRun], *, max_score_loss: float | None, **settings: Any) -> MadeOf | None:
    """What an export is made of; None where a record does not say which weights its run has, or a limit is none."""
    found = [run.record.weights_fingerprint for run in runs]
    if not all(found) or not math.isfinite(max_score_loss or 0.0):
        return None
    settings["max_score_loss"] = max_score_loss
    return MadeOf(weights_fingerprints=[each for each in found if each], **settings)


def earlier_export(output: Path, kind: ExportFormat, wanted: MadeOf | None) -> ExportDescription | None:
    """The same export, where the folder holds it; None where it holds something else, or one of other weights."""
    if wanted is None or not (output / EXPORT_NAME).is_file():
        return None
    try:
        found = SavedExport.open(output).description
    except UserError:
        return None
    return found if (found.format, found.made_of) == (kind, wanted) and found.check is not None else None

"""What tells whether the weights that a run left are still the same."""

from __future__ import annotations

import hashlib
from pathlib import Path

from peftlab.models.weights_fingerprint import fingerprint_weights

PIECE = 1 << 20
"""Bytes of a file that are read at once."""


def sha256_of_weights(folder: Path) -> str:
    """SHA-256 of all files of weights in a folder together."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            while piece := file.read(PIECE):
                digest.update(piece)
    return digest.hexdigest()


def fingerprint_artifact(folder: Path, *, is_whole: bool) -> str | None:
    """Of an adapter every byte counts; a whole model is too large for that, and pieces of each tensor count.

    Args:
        folder: ``adapter/`` or ``model/``.
        is_whole: Which of the two.
    """
    return fingerprint_weights(folder) if is_whole else sha256_of_weights(folder)

"""A fingerprint of a checkpoint's weights, read in a moment whatever their size.

An adapter fits the weights that it was trained on. On others of the same shape it loads without a word, and answers
wrongly; so a run keeps the fingerprint of its base. It is taken of pieces of every tensor. Training, merging and
rounding change all of a matrix, and show; a few words that were changed by hand may not.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, BinaryIO

from transformers.utils.hub import cached_file

from peftlab.models.checkpoint_files import read_header, weights_files

PIECES, PIECE = 8, 1 << 10
"""How many pieces of a tensor are read, and their bytes."""
GGUF_PIECES = 4096
"""Likewise of a GGUF file, whose tensors are not told apart: one in each quarter of a megabyte, in a file of a GiB."""


def fingerprint_weights(place: Path | str, *, revision: str | None = None) -> str | None:
    """SHA-256 over names, types, shapes and evenly spread pieces of all tensors.

    Equal for the same tensors in other files: cut in other parts, or with other notes in their headers.

    Args:
        place: A folder, a ``.gguf`` file, or a Hub id whose files are in the local cache.
        revision: Of a Hub id.

    Returns:
        None where there are no such files: transformers may have loaded another revision, which the Hub has converted.

    Raises:
        OSError: A file cannot be read, or is not in the cache.
        SourceError: A file is not what its name says.
    """
    if isinstance(place, Path) and place.suffix == ".gguf":
        return _of_one_file(place)
    if isinstance(place, str):
        place = Path(str(cached_file(place, "config.json", revision=revision, local_files_only=True))).parent
    found: dict[str, tuple[Path, int, dict[str, Any]]] = {}
    for file in weights_files(place):
        start, entries = read_header(file)
        found |= {name: (file, start, entry) for name, entry in entries.items()}
    if not found:
        return None
    digest = hashlib.sha256()
    for name, (file, start, entry) in sorted(found.items()):
        digest.update(f"{name} {entry['dtype']} {entry['shape']}\n".encode())
        begin, end = entry["data_offsets"]
        with file.open("rb") as stream:
            for piece in _pieces(stream, start + begin, end - begin, PIECES):
                digest.update(piece)
    return digest.hexdigest()


def _of_one_file(file: Path) -> str:
    size = file.stat().st_size
    digest = hashlib.sha256(f"{size}\n".encode())
    with file.open("rb") as stream:
        for piece in _pieces(stream, 0, size, GGUF_PIECES):
            digest.update(piece)
    return digest.hexdigest()


def _pieces(stream: BinaryIO, start: int, size: int, count: int) -> list[bytes]:
    """Some pieces of a part of a file, from its first bytes to its last; all of it, if it is short."""
    if size <= count * PIECE:
        stream.seek(start)
        return [stream.read(size)]
    found = []
    for at in range(count):
        stream.seek(start + (size - PIECE) * at // (count - 1))
        found.append(stream.read(PIECE))
    return found

"""A fingerprint of a checkpoint's weights, read in a moment whatever their size.

An adapter fits the weights that it was trained on. On others of the same shape it loads without a word, and answers
wrongly; so a run keeps the fingerprint of its base. It is taken of pieces of every tensor. Training, merging and
rounding change all of a matrix, and show; a few words that were changed by hand may not.
"""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path
from typing import Any, BinaryIO

from transformers.utils.hub import cached_file

WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"
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
    """
    if isinstance(place, Path) and place.suffix == ".gguf":
        return _of_one_file(place)
    if isinstance(place, str):
        place = Path(str(cached_file(place, "config.json", revision=revision, local_files_only=True))).parent
    found: dict[str, tuple[Path, int, dict[str, Any]]] = {}
    for file in _weights_files(place):
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            header = json.loads(stream.read(length))
        found |= {name: (file, 8 + length, entry) for name, entry in header.items() if name != "__metadata__"}
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


def _weights_files(folder: Path) -> list[Path]:
    """The files that transformers loads: one, or those that an index names."""
    if (folder / WHOLE).is_file():
        return [folder / WHOLE]
    if (folder / INDEX).is_file():
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        return sorted({folder / name for name in index["weight_map"].values()})
    return sorted(folder.glob("*.safetensors"))


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

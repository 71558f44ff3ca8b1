"""The files of a checkpoint's weights, as safetensors lays them out; no weights are loaded, and no torch."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

from peftlab.core.errors import SourceError

WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"
LONGEST_HEADER = 100_000_000
"""Bytes; safetensors itself reads none that is longer."""


def weights_files(folder: Path) -> list[Path]:
    """The files that transformers loads: one, or those that an index names; where there is neither, all."""
    if (folder / WHOLE).is_file():
        return [folder / WHOLE]
    if (folder / INDEX).is_file():
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        return sorted({folder / name for name in index["weight_map"].values()})
    return sorted(folder.glob("*.safetensors"))


def read_header(file: Path) -> tuple[int, dict[str, dict[str, Any]]]:
    """Eight bytes of length, then JSON (https://huggingface.co/docs/safetensors).

    Returns:
        Where the tensors' bytes begin in the file; of each tensor ``dtype``, ``shape`` and ``data_offsets`` from there.

    Raises:
        SourceError: It is no such file.
    """
    try:
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            if length > min(file.stat().st_size, LONGEST_HEADER):
                raise ValueError("its header is longer than the file")
            header = json.loads(stream.read(length))
        found = {name: entry for name, entry in header.items() if name != "__metadata__"}
        for entry in found.values():
            _ = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
    except (struct.error, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SourceError(f"{file.name} is not a safetensors file: {error}", where=str(file.parent)) from None
    return 8 + length, found

"""GGUF files: converted once to a safetensors folder, which is kept in the cache.

transformers reads GGUF by dequantising it to float32, which takes long, and cannot save the outcome again
(its config then holds an object that is not serialisable). Here the outcome is saved once and loaded from then on.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock

from peftlab.core.amounts import short_size
from peftlab.core.errors import SourceError
from peftlab.core.files import atomic_folder, cache_folder
from peftlab.core.quiet import quiet_transformers
from peftlab.core.reporter import ProgressCallback
from peftlab.models.own_checkpoint import write_checkpoint

FORMAT = "1"
"""Raised when the conversion changes, so that old cache entries are left aside."""


def converted_folder(file: Path) -> Path | None:
    """The cached conversion of a GGUF file, where there is one."""
    folder = _cache_entry(file)
    return folder if (folder / "config.json").is_file() else None


def convert_gguf(file: Path, report: ProgressCallback | None = None) -> Path:
    """Convert a GGUF file to a folder that transformers loads fast, or find it in the cache.

    Args:
        file: The ``.gguf`` file.
        report: Is told when a conversion starts.

    Returns:
        A folder with the model (float32, as exact as the file), its config and its tokenizer.

    Raises:
        SourceError: The file is no GGUF file, or of an architecture that transformers cannot read.
    """
    folder = _cache_entry(file)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):
        if not (folder / "config.json").is_file():
            size = _bytes_in_float32(file)
            _check_room(file, folder.parent, size)
            if report:
                shown = short_size(size)
                report(f"converting {file.name} to safetensors: {shown} in memory, and in the cache, where they stay")
            _convert(file, folder)
    return folder


def _bytes_in_float32(file: Path) -> int:
    from gguf import GGUFReader

    try:
        return sum(4 * int(tensor.n_elements) for tensor in GGUFReader(file).tensors)
    except (ValueError, IndexError, KeyError, OSError) as error:
        raise SourceError(f"not a GGUF file: {error}", where=str(file)) from None


def _check_room(file: Path, cache: Path, size: int) -> None:
    """Refuse before the work what would fill the disk.

    Raises:
        SourceError: With how much room is missing.
    """
    free = shutil.disk_usage(cache).free
    if size > free:
        raise SourceError(
            f"in float32 its weights take {short_size(size)}, and the cache has {short_size(free)} free: {cache}",
            where=str(file),
            hint="Set PEFTLAB_CACHE to a folder with more room, or name the model's checkpoint on the Hub instead.",
        )


def write_gguf_tokenizer(file: Path, folder: Path) -> None:
    """Write the tokenizer of a GGUF file into a folder, without reading the weights.

    Raises:
        SourceError: transformers cannot read it.
    """
    from transformers import AutoTokenizer

    with _as_source_error(file), quiet_transformers():
        AutoTokenizer.from_pretrained(file.parent, **_of_file(file)).save_pretrained(folder)


def _of_file(file: Path) -> dict[str, Any]:
    """What transformers reads alone: no code that lies beside the file, and nothing from elsewhere."""
    return {"gguf_file": file.name, "local_files_only": True, "trust_remote_code": False}


def _cache_entry(file: Path) -> Path:
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256")
    return cache_folder() / "gguf" / f"{file.stem}-{digest.hexdigest()[:16]}-v{FORMAT}"


def _convert(file: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source = _of_file(file)
    with _as_source_error(file), quiet_transformers():
        tokenizer = AutoTokenizer.from_pretrained(file.parent, **source)
        model = AutoModelForCausalLM.from_pretrained(file.parent, dtype=torch.float32, **source)
    # The weights are plain float32 by now; the leftover quantisation config is what cannot be saved.
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    setattr(model, "hf_quantizer", None)  # noqa: B010 - transformers declares another type
    with atomic_folder(folder) as partial, quiet_transformers():
        write_checkpoint(model, partial)
        tokenizer.save_pretrained(partial)


@contextmanager
def _as_source_error(file: Path) -> Iterator[None]:
    try:
        yield
    except (ValueError, OSError, KeyError, NotImplementedError) as error:
        raise SourceError(f"transformers cannot read this GGUF file: {error}", where=str(file)) from None

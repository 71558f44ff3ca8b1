"""GGUF files: converted once to a safetensors folder, which is kept in the cache.

transformers reads GGUF by dequantising it to float32, which takes long, and cannot save the outcome again
(its config then holds an object that is not serialisable). Here the outcome is saved once and loaded from then on.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from filelock import FileLock

from peftlab.errors import SourceError
from peftlab.files import atomic_folder, cache_folder
from peftlab.interfaces import ProgressCallback

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
            if report:
                report(f"converting {file.name} to safetensors (once; kept in the cache)")
            _convert(file, folder)
    return folder


def read_gguf_metadata(file: Path) -> dict[str, Any]:
    """The facts in a GGUF file's metadata, under the names of a transformers config; without torch.

    Raises:
        SourceError: The file is no GGUF file.
    """
    from gguf import GGUFReader

    try:
        fields = {name: field.contents() for name, field in GGUFReader(file).fields.items()}
    except (ValueError, IndexError, KeyError, OSError) as error:
        raise SourceError(f"not a GGUF file: {error}", where=str(file)) from None
    architecture = str(fields.get("general.architecture", ""))
    return {
        "model_type": architecture,
        "architectures": ["GGUFForCausalLM"],  # GGUF holds language models that read from left to right
        "max_position_embeddings": fields.get(f"{architecture}.context_length"),
    }


def _cache_entry(file: Path) -> Path:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        for block in iter(lambda: stream.read(1 << 20), b""):
            digest.update(block)
    return cache_folder() / "gguf" / f"{file.stem}-{digest.hexdigest()[:16]}-v{FORMAT}"


def _convert(file: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source: dict[str, Any] = {"gguf_file": file.name, "local_files_only": True}
    try:
        tokenizer = AutoTokenizer.from_pretrained(file.parent, **source)
        model = AutoModelForCausalLM.from_pretrained(file.parent, dtype=torch.float32, **source)
    except (ValueError, OSError, KeyError, NotImplementedError) as error:
        raise SourceError(f"transformers cannot read this GGUF file: {error}", where=str(file)) from None
    # The weights are plain float32 by now; the leftover quantisation config is what cannot be saved.
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    setattr(model, "hf_quantizer", None)  # noqa: B010 - transformers declares another type
    with atomic_folder(folder) as partial:
        model.save_pretrained(partial)
        tokenizer.save_pretrained(partial)

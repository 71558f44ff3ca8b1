"""What the header of a GGUF file tells of a model: a whole transformers config, without torch.

transformers has the tables that translate one into the other. Where it does more than look names up, it is asked
itself, and torch with it. Nothing is filled in: another model's sizes would pass for this one's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from peftlab.core.errors import SourceError, UnsupportedError, did_you_mean

_RENAMED = {"qwen2moe": "qwen2_moe", "qwen3moe": "qwen3_moe"}
_TEXT_ALONE = {"gemma3": "gemma3_text", "gemma4": "gemma4_text"}
_TOKENS = "tokenizer.ggml.tokens"
_ASKED = ("t5", "stablelm", "gpt_oss", "gpt-oss", "minimax", "mistral", "gemma4")
"""Architectures of which transformers changes more than names."""


def read_gguf_config(file: Path) -> dict[str, Any]:
    """The config of the model in a GGUF file.

    Raises:
        SourceError: The file is no GGUF file, or its header lacks a size.
        UnsupportedError: transformers does not read this architecture from GGUF.
    """
    from transformers.integrations.ggml import GGUF_CONFIG_DEFAULTS_MAPPING, GGUF_CONFIG_MAPPING
    from transformers.integrations.gguf.gguf_config_mapping import GGUF_CONFIG_ARCHS

    metadata, tensors = _read_header(file)
    architecture = str(metadata.get("general.architecture", ""))
    name = _RENAMED.get(architecture, architecture)
    try:
        if architecture in GGUF_CONFIG_ARCHS:
            return dict(GGUF_CONFIG_ARCHS[architecture](metadata, tensors))
        if any(word in architecture for word in _ASKED) or "mistral" in str(metadata.get("general.name", "")).lower():
            return _asked(file)
    except (KeyError, ValueError) as error:
        raise SourceError(f"the header of the GGUF file lacks {error}", where=str(file)) from None
    mapping: dict[str, Any] = GGUF_CONFIG_MAPPING
    if name not in mapping or name in {"general", "tokenizer"}:
        raise UnsupportedError(
            f"transformers does not read the architecture `{architecture}` from GGUF files",
            where=str(file),
            hint=did_you_mean(name, set(mapping) - {"general", "tokenizer"}),
        )
    names: dict[str, Any] = mapping[name]
    config: dict[str, Any] = dict(GGUF_CONFIG_DEFAULTS_MAPPING.get(name, {}))
    for key, ours in names.items():
        value = metadata.get(f"{architecture}.{key}")
        if ours not in {None, -1} and value is not None:
            config[ours] = value
    config["tie_word_embeddings"] = "output.weight" not in tensors or architecture in {"falcon", "bloom"}
    config.setdefault("vocab_size", metadata.get(_TOKENS))
    config["model_type"] = _TEXT_ALONE.get(name, name)
    _refuse_gaps(config, names, file)
    return config


def _refuse_gaps(config: dict[str, Any], names: dict[str, Any], file: Path) -> None:
    sizes = {names.get(key) for key in ("block_count", "embedding_length")} | {"vocab_size"}
    missing = sorted(size for size in sizes if isinstance(size, str) and not config.get(size))
    if missing:
        raise SourceError(f"the header of the GGUF file does not tell {', '.join(missing)}", where=str(file))


def _asked(file: Path) -> dict[str, Any]:
    from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

    config: dict[str, Any] = load_gguf_checkpoint(str(file), return_tensors=False)["config"]  # type: ignore[no-untyped-call]
    return config


def _read_header(file: Path) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The metadata, of the tokens only how many they are; and the names of the tensors."""
    from gguf import GGUFReader

    try:
        reader = GGUFReader(file)
        metadata = {
            name: len(field.data) if name == _TOKENS else field.contents()
            for name, field in reader.fields.items()
            if name == _TOKENS or not name.startswith("tokenizer.ggml.") or name.endswith("_id")
        }
        return metadata, tuple(tensor.name for tensor in reader.tensors)
    except (ValueError, IndexError, KeyError, OSError) as error:
        raise SourceError(f"not a GGUF file: {error}", where=str(file)) from None

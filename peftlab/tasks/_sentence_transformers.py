"""The files by which sentence-transformers knows how a model's hidden states become vectors.

They are written in the form that every version since 2 reads:
https://sbert.net/docs/sentence_transformer/usage/custom_models.html
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

POOLING_KEYS = {"mean": "pooling_mode_mean_tokens", "cls": "pooling_mode_cls_token", "last": "pooling_mode_lasttoken"}
"""What it calls our poolings."""


def sentence_transformers_files(
    hidden_size: int, *, pooling: str, normalize: bool, max_length: int
) -> Mapping[str, str]:
    """The text of each file, by its path in the model's folder.

    Args:
        hidden_size: Of the model.
        pooling: mean, cls or last.
        normalize: Whether vectors have the length 1.
        max_length: Tokens of a text at most.
    """
    modules = [("", "Transformer"), ("1_Pooling", "Pooling"), *([("2_Normalize", "Normalize")] if normalize else [])]
    files: dict[str, Any] = {
        "modules.json": [
            {"idx": at, "name": str(at), "path": path, "type": f"sentence_transformers.models.{name}"}
            for at, (path, name) in enumerate(modules)
        ],
        "sentence_bert_config.json": {"max_seq_length": max_length, "do_lower_case": False},
        "config_sentence_transformers.json": {
            "prompts": {},
            "default_prompt_name": None,
            "similarity_fn_name": "cosine" if normalize else "dot",
        },
        "1_Pooling/config.json": {
            "word_embedding_dimension": hidden_size,
            **{key: name == pooling for name, key in POOLING_KEYS.items()},
            "include_prompt": True,
        },
    }
    return {path: json.dumps(content, indent=2) + "\n" for path, content in files.items()}

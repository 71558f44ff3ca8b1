"""What is known of a base model before its weights are loaded, and without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Family = Literal["encoder", "decoder", "encoder_decoder", "image", "image_text", "unknown"]
"""``image_text``: two towers side by side, one of which looks at images and the other reads texts, as CLIP's do."""

CHECKPOINT_HEADS = frozenset(
    {"classifier", "pre_classifier", "score", "cls", "lm_head", "qa_outputs", "vocab_transform", "predictions"}
)
"""First words of the names that transformers gives the weights of a model's head."""

RELATIVE_POSITIONS = frozenset({"t5", "mt5", "umt5"})
"""Types of models that take texts of any length, whatever their config's ``n_positions`` says of their pre-training."""


@dataclass(frozen=True)
class TokenizerFacts:
    """What is known of a model's tokenizer before it is loaded.

    Args:
        tokens: Every token and its id.
        chat_template: None: there is none.
    """

    tokens: Mapping[str, int]
    chat_template: str | None = None


@dataclass(frozen=True)
class ModelFacts:
    """What is known of a base model before its weights are loaded, and without torch.

    Args:
        path: As the recipe writes it.
        model_type: transformers' name of the architecture: ``bert``, ``gpt2``, ``llama``.
        family: Whether it reads both ways, or left to right; or whether it looks at images, or does both.
        config: The content of ``config.json``.
        weights: Shape of every weight by its name in the checkpoint; None where no index is at hand.
        peft_task_type: Of the recipe's task; empty where none is known.
        tokenizer: Of the model; None where its files are not at hand.
    """

    path: str
    model_type: str
    family: Family
    config: Mapping[str, Any]
    weights: Mapping[str, tuple[int, ...]] | None = None
    peft_task_type: str = ""
    tokenizer: TokenizerFacts | None = None

    @property
    def embedding_rows(self) -> int | None:
        """How many tokens the model has embeddings for; None where its config does not say."""
        text = self.config.get("text_config")
        rows = self.config.get("vocab_size") or (text.get("vocab_size") if isinstance(text, Mapping) else None)
        return rows if isinstance(rows, int) else None

    @property
    def max_length(self) -> int | None:
        """The longest input in tokens, where the positions are limited."""
        if self.model_type in RELATIVE_POSITIONS:
            return None
        text = self.config.get("text_config") if self.family == "image_text" else self.config
        for key in ("max_position_embeddings", "n_positions"):
            value = (text or {}).get(key)
            if isinstance(value, int) and value > 0:
                # RoBERTa's positions start after the padding token's id.
                return value - 2 if self.model_type in {"roberta", "xlm-roberta", "camembert"} else value
        return None

    def linear_modules(self) -> list[str]:
        """Names of modules with a weight matrix that is no embedding; empty where the weights are unknown."""
        return [
            name.removesuffix(".weight")
            for name, shape in (self.weights or {}).items()
            if name.endswith(".weight") and len(shape) == 2 and not is_embedding(name)
        ]

    def adaptable_modules(self) -> list[str]:
        """The linear modules that a method can adapt.

        Left out are the layer over the vocabulary, and the checkpoint's own head where the task puts another on it.
        """
        text = self.config.get("text_config")
        vocabulary = self.config.get("vocab_size") or (text or {}).get("vocab_size")
        heads = CHECKPOINT_HEADS if self.peft_task_type in ("SEQ_CLS", "TOKEN_CLS", "QUESTION_ANS") else ()
        return [
            name
            for name in self.linear_modules()
            if (self.weights or {})[f"{name}.weight"][0] != vocabulary and name.partition(".")[0] not in heads
        ]


def is_embedding(weight_name: str) -> bool:
    """Whether a weight, by its name, is an embedding table rather than a projection."""
    last = weight_name.removesuffix(".weight").rpartition(".")[2]
    return "embed" in last or last in {"wte", "wpe", "relative_attention_bias"}

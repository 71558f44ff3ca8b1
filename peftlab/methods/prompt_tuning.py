"""Prompt tuning: trained embeddings before the text's own (Lester et al. 2021, https://arxiv.org/abs/2104.08691)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from peftlab.core.method import METHODS, MethodContext
from peftlab.methods._prompts import PromptMethod, embedding_size, wrap


@METHODS.register("prompt_tuning")
class PromptTuning(PromptMethod):
    """Prompt tuning: trained embeddings stand before the text's own."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2104.08691"
    other_names: ClassVar[Mapping[str, str]] = {
        "soft_prompt": "Write `prompt_tuning`.",
        "prompt": "Write `prompt_tuning`.",
    }
    default_learning_rate: ClassVar[float] = 5e-2

    initialization: Literal["random", "sample_vocab"] = Field(
        "sample_vocab", description="Random numbers, or the embeddings of random words (better in the paper)."
    )

    def apply(self, model: Any, context: MethodContext) -> Any:
        """Put a prompt before every text."""
        import peft

        config = peft.PromptTuningConfig(
            task_type=context.peft_task_type,
            num_virtual_tokens=self.num_virtual_tokens,
            num_transformer_submodules=1,  # of an encoder–decoder the encoder reads them, and nothing else
            token_dim=embedding_size(model),
            prompt_tuning_init=self.initialization.upper(),
        )
        return wrap(model, config, context)

"""Prompt tuning: trained embeddings before the text's own (Lester et al. 2021, https://arxiv.org/abs/2104.08691)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, PositiveInt

from peftlab.core.method import METHODS, Method, MethodContext
from peftlab.core.model_facts import ModelFacts
from peftlab.methods._prompts import check_head, embedding_size, is_virtual_token, refuse_added_tokens, wrap

if TYPE_CHECKING:
    from torch import Tensor


@METHODS.register("prompt_tuning")
class PromptTuning(Method):
    """Prompt tuning: trained embeddings stand before the text's own."""

    works_sharded: ClassVar[bool] = True
    paper: ClassVar[str] = "https://arxiv.org/abs/2104.08691"
    other_names: ClassVar[Mapping[str, str]] = {
        "soft_prompt": "Write `prompt_tuning`.",
        "prompt": "Write `prompt_tuning`.",
    }
    default_learning_rate: ClassVar[float] = 5e-2

    num_virtual_tokens: PositiveInt = Field(16, description="Length of the prompt.")
    initialization: Literal["random", "sample_vocab"] = Field(
        "sample_vocab", description="Random numbers, or the embeddings of random words (better in the paper)."
    )

    def extra_positions(self) -> int:
        """Virtual tokens stand before the text's own."""
        return self.num_virtual_tokens

    def decays(self, name: str, parameter: Tensor) -> bool:
        """Not the virtual tokens."""
        return super().decays(name, parameter) and not is_virtual_token(name)

    def check(self, facts: ModelFacts) -> None:
        """Refuse a head that peft would lose."""
        check_head(facts)

    def check_added_tokens(self) -> None:
        """Refuse them: peft would not save their embeddings."""
        refuse_added_tokens()

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

"""P-tuning: a prompt that a small network computes while training (Liu et al. 2021, https://arxiv.org/abs/2103.10385)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, PositiveInt

from peftlab.core.method import METHODS, Method, MethodContext
from peftlab.core.model_facts import ModelFacts
from peftlab.methods._prompts import check_head, embedding_size, is_virtual_token, refuse_added_tokens, wrap

if TYPE_CHECKING:
    from torch import Tensor


@METHODS.register("p_tuning")
class PTuning(Method):
    """P-tuning: a prompt that a small network computes while training."""

    works_sharded: ClassVar[bool] = True
    paper: ClassVar[str] = "https://arxiv.org/abs/2103.10385"
    other_names: ClassVar[Mapping[str, str]] = {
        "p_tuning_v1": "Write `p_tuning`.",
    }
    default_learning_rate: ClassVar[float] = 5e-3
    search_space: ClassVar[Mapping[str, tuple[Any, ...]]] = {"method.encoder": ("mlp", "lstm")}

    num_virtual_tokens: PositiveInt = Field(16, description="Length of the prompt.")
    encoder: Literal["mlp", "lstm"] = Field("mlp", description="The network that computes the prompt.")
    encoder_hidden_size: PositiveInt = Field(128, description="Hidden size of that network.")

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
        """Put a computed prompt before every text."""
        import peft

        config = peft.PromptEncoderConfig(
            task_type=context.peft_task_type,
            num_virtual_tokens=self.num_virtual_tokens,
            num_transformer_submodules=1,  # of an encoder–decoder the encoder reads them, and nothing else
            token_dim=embedding_size(model),
            encoder_reparameterization_type=self.encoder.upper(),
            encoder_hidden_size=self.encoder_hidden_size,
        )
        return wrap(model, config, context)

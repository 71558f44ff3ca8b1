"""What the prompt methods share: which models can take virtual tokens, and which heads peft saves with them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, PositiveInt

from peftlab.core.errors import UnsupportedError
from peftlab.core.method import Method, MethodContext
from peftlab.core.model_facts import ModelFacts

if TYPE_CHECKING:
    from torch import Tensor

SAVED_HEADS = {"classifier", "score", "qa_outputs"}
"""With prompt methods peft trains and saves modules of these names, and no others."""

WITHOUT_PAST_KEY_VALUES = frozenset(
    {"albert", "deberta", "deberta-v2", "distilbert", "mobilebert", "modernbert", "mpnet"}
)
"""Encoders of transformers whose attention takes no keys and values from outside."""


class PromptMethod(Method):
    """A method whose virtual tokens stand before the text's own: its subclasses say what they are made of."""

    works_sharded: ClassVar[bool] = True

    num_virtual_tokens: PositiveInt = Field(16, description="Number of virtual tokens before the text's own.")

    def extra_positions(self) -> int:
        """Virtual tokens stand before the text's own."""
        return self.num_virtual_tokens

    def decays(self, name: str, parameter: Tensor) -> bool:
        """Not the virtual tokens.

        They stand in the place of activations, and near zero they say nothing. The authors of prompt tuning let them
        decay by next to nothing (1e-5), those of prefix tuning not at all. Networks that compute them are matrices
        like others.
        """
        is_virtual_token = name.startswith("prompt_encoder.") and name.endswith(".embedding.weight")
        return super().decays(name, parameter) and not is_virtual_token

    def check(self, facts: ModelFacts) -> None:
        """Refuse DistilBERT's classifier of two layers, of which peft would lose one."""
        if facts.model_type == "distilbert" and facts.peft_task_type == "SEQ_CLS":
            raise _lost_heads(["pre_classifier"])

    def check_added_tokens(self) -> None:
        """Refuse them: peft would not save their embeddings."""
        raise UnsupportedError(
            "peft saves no embeddings of added tokens with prompt methods",
            hint="Choose another method, such as lora, or leave model.add_tokens empty.",
        )


def check_heads(context: MethodContext) -> None:
    """Refuse heads that peft would leave untrained and unsaved without a word.

    Raises:
        UnsupportedError: With the names of the modules.
    """
    lost = [name for name in context.head_modules if name not in SAVED_HEADS]
    if lost:
        raise _lost_heads(lost)


def _lost_heads(names: list[str]) -> UnsupportedError:
    return UnsupportedError(
        f"peft does not save {', '.join(names)} with prompt methods, and the checkpoint does not hold it",
        hint="Choose another method, such as lora.",
    )


def embedding_size(model: Any) -> int:
    """Size of the text's embeddings: smaller than the hidden size, which peft takes, in ELECTRA and ALBERT."""
    return int(model.get_input_embeddings().weight.shape[1])


def check_past_key_values(facts: ModelFacts) -> None:
    """Refuse models whose attention takes no prefix.

    Raises:
        UnsupportedError: With the reason.
    """
    if facts.model_type in WITHOUT_PAST_KEY_VALUES:
        raise UnsupportedError(
            f"prefix tuning needs attention that takes keys and values from outside; {facts.model_type} does not",
            hint="Choose prompt_tuning, p_tuning or lora.",
        )
    if facts.model_type == "falcon" and facts.config.get("multi_query", True):
        raise UnsupportedError(
            "peft's prefixes do not have the one key head that Falcon's multi-query attention has",
            hint="Choose prompt_tuning, p_tuning or lora.",
        )


def wrap(model: Any, config: Any, context: MethodContext) -> Any:
    """Wrap a model by a prompt method of peft.

    Raises:
        UnsupportedError: peft would lose a head, or cannot put virtual tokens on such a model.
    """
    import peft

    check_heads(context)
    try:
        return peft.get_peft_model(model, config)
    except ValueError as error:
        raise UnsupportedError(f"peft cannot put virtual tokens on this model: {error}") from None

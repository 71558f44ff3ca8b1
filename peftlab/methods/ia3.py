"""(IA)³: activations are rescaled by trained vectors (Liu et al. 2022, https://arxiv.org/abs/2205.05638)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from peftlab.core.errors import UnsupportedError
from peftlab.core.method import METHODS, Method, MethodContext
from peftlab.core.model_facts import ModelFacts
from peftlab.core.record import Guard
from peftlab.methods._targets import are_transposed, check_targets, guard_targets, resolve_targets

# fmt: off
KNOWN_MODEL_TYPES = frozenset({
    "RefinedWeb", "RefinedWebModel", "bart", "bert", "bloom", "deberta", "deberta-v2", "falcon", "gemma",
    "gemma2", "gemma3_text", "gpt2", "gpt_bigcode", "gpt_neo", "gpt_neox", "gptj", "llama", "llama4", "mistral",
    "mixtral", "mt5", "opt", "phi", "qwen2", "qwen3", "roberta", "t5",
})
# fmt: on
"""What peft's table knows; written out, since importing it imports torch. A test holds the two together."""
LIKE_BERT = (["key", "value", "output.dense"], ["output.dense"])
LIKE_LLAMA = (["k_proj", "v_proj", "down_proj"], ["down_proj"])
TOWERS = (["k_proj", "v_proj", "mlp.fc2"], ["mlp.fc2"])
OWN_NAMES = {
    **dict.fromkeys(("camembert", "electra", "ernie", "longformer", "xlm-roberta"), LIKE_BERT),
    **dict.fromkeys(("cohere", "eurobert", "olmo2", "smollm3", "stablelm"), LIKE_LLAMA),
    **dict.fromkeys(("clip", "deit", "dinov2", "metaclip_2", "vit"), TOWERS),
    "distilbert": (["k_lin", "v_lin", "ffn.lin2"], ["ffn.lin2"]),
    "marian": (["k_proj", "v_proj", "fc2"], ["fc2"]),
    "mpnet": (["attn.k", "attn.v", "output.dense"], ["output.dense"]),
    "phi3": (["qkv_proj", "down_proj"], ["down_proj"]),
    "umt5": (["k", "v", "wo"], ["wo"]),
}
"""Targets, and those of them in feed-forward layers, of types that peft's table does not know."""


@METHODS.register("ia3")
class Ia3(Method):
    """(IA)³: keys, values and feed-forward activations are rescaled by trained vectors."""

    works_sharded: ClassVar[bool] = True
    paper: ClassVar[str] = "https://arxiv.org/abs/2205.05638"
    other_names: ClassVar[Mapping[str, str]] = {
        "(ia)3": "Write `ia3`.",
        "(ia)^3": "Write `ia3`.",
    }
    default_learning_rate: ClassVar[float] = 2e-2
    mergeable: ClassVar[bool] = True
    starts_as_base: ClassVar[bool] = True

    target_modules: Literal["auto"] | Annotated[list[str], Field(min_length=1)] = Field(
        "auto", description="Names of the layers to rescale; auto: keys, values and the feed-forward's last layer."
    )
    feedforward_modules: Literal["auto"] | list[str] = Field(
        "auto",
        description="Which of these layers are rescaled at their input, as the paper does in feed-forward layers.",
    )

    @model_validator(mode="after")
    def _check(self) -> Ia3:
        if (self.target_modules == "auto") != (self.feedforward_modules == "auto"):
            raise ValueError("`target_modules` and `feedforward_modules` are both 'auto', or both lists")
        if self.target_modules != "auto" and not set(self.feedforward_modules) <= set(self.target_modules):
            raise ValueError("every name in `feedforward_modules` must be in `target_modules` too")
        return self

    def check(self, facts: ModelFacts) -> None:
        """Refuse target modules that match nothing."""
        if self.target_modules != "auto":
            check_targets(facts, self.target_modules)
        elif facts.model_type not in KNOWN_MODEL_TYPES and facts.model_type not in OWN_NAMES:
            raise _unknown(facts.model_type or facts.path)

    def apply(self, model: Any, context: MethodContext) -> Any:
        """Rescale the outputs of keys and values and the inputs of the feed-forward's last layer."""
        import peft

        kind = _model_type(model)
        names, feedforward = self._names(kind)
        try:
            targets = resolve_targets(model, names, context)
        except UnsupportedError:
            if self.target_modules != "auto":
                raise
            raise _unknown(kind) from None  # as of Mixtral, whose experts are no layers of their own any more
        config = peft.IA3Config(
            task_type=context.peft_task_type,
            target_modules=targets,
            fan_in_fan_out=are_transposed(model, targets),
            feedforward_modules=resolve_targets(model, feedforward, context) if feedforward else [],
            modules_to_save=list(context.head_modules),
        )
        return peft.get_peft_model(model, config)

    def guards(self, model: Any, context: MethodContext) -> dict[str, Guard]:
        """Every target is rescaled."""
        return {"target_modules_matched": guard_targets(model, self._names(_model_type(model))[0])}

    def _names(self, model_type: str) -> tuple[list[str], list[str]]:
        if self.target_modules != "auto":
            return list(self.target_modules), list(self.feedforward_modules)
        if model_type in OWN_NAMES:
            return OWN_NAMES[model_type]
        from peft.utils import constants

        targets = constants.TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING.get(model_type)
        if targets is None:
            raise _unknown(model_type)
        return targets, constants.TRANSFORMERS_MODELS_TO_IA3_FEEDFORWARD_MODULES_MAPPING.get(model_type, [])


def _model_type(model: Any) -> str:
    """What transformers calls the architecture; empty for a model of another library."""
    return str(getattr(getattr(model, "config", None), "model_type", ""))


def _unknown(model_type: str) -> UnsupportedError:
    return UnsupportedError(
        f"peftlab does not know which layers (IA)³ rescales in a {model_type} model",
        hint="Name them in method.target_modules and method.feedforward_modules.",
    )

"""A tuning method on a model that somebody has in hand, without a recipe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from peftlab.core.config import Document, build_config
from peftlab.core.errors import UnsupportedError
from peftlab.core.method import METHODS, Method, MethodContext
from peftlab.core.model_facts import Family, ModelFacts

if TYPE_CHECKING:
    from torch import nn

_TASK_TYPES = {
    "ForSequenceClassification": "SEQ_CLS",
    "ForTokenClassification": "TOKEN_CLS",
    "ForCausalLM": "CAUSAL_LM",
    "LMHeadModel": "CAUSAL_LM",
    "ForQuestionAnswering": "QUESTION_ANS",
    "ForConditionalGeneration": "SEQ_2_SEQ_LM",
    "ForMaskedLM": "FEATURE_EXTRACTION",
}
"""peft's name of the task by the end of a transformers class's name."""
_HEADS = ("classifier", "score", "pre_classifier", "qa_outputs")
"""What transformers calls the heads that it starts anew on a base model."""


def wrap(
    model: nn.Module,
    method: str | Method,
    *,
    head_modules: Sequence[str] | None = None,
    total_steps: int = 0,
    **settings: Any,
) -> Any:
    """Put a tuning method on a model, so that only what the method trains requires a gradient.

    ``peftlab.wrap(model, "lora", rank=8)``. The training loop is yours. Methods with hooks, such as AdaLoRA, need them
    called: give the method itself, and call its ``after_step`` and ``penalty``.

    Args:
        model: Any torch model, or a transformers model; it may be changed in place.
        method: A method's name (``peftlab ls methods``), or a method.
        head_modules: Names of modules that train and are saved whole. None: the head of a transformers model for
            classification, tagging or question answering; else none.
        total_steps: Optimizer steps of the training to come, for methods with a schedule.
        **settings: The method's own keys, as in a recipe.

    Returns:
        What to train: a ``peft.PeftModel``, or the model itself.

    Raises:
        ConfigError: There is no such method, or it has no such key.
        UnsupportedError: The method does not go on this model, with the reason.
    """
    if isinstance(method, str):
        document = Document(source=f"wrap(…, {method!r})", values=settings)
        method = build_config(METHODS.get(method), settings, document=document)
    elif settings:
        raise TypeError("wrap takes settings with a method's name; a method that is given has its own")
    facts = facts_of(model)
    method.check(facts)
    if method.extra_positions() and not hasattr(model, "get_input_embeddings"):
        raise UnsupportedError(
            f"{method.registered_name} puts virtual tokens before a text, and {facts.path} has no embeddings of tokens",
            hint="Choose a method that goes on any layer, such as lora.",
        )
    heads = _heads_of(model) if head_modules is None else tuple(head_modules)
    context = MethodContext(
        peft_task_type=facts.peft_task_type or None,
        total_steps=total_steps,
        head_modules=heads,
        family=facts.family,
    )
    return method.apply(model, context)


def facts_of(model: Any) -> ModelFacts:
    """What is known of a model that is in memory."""
    config: Any = getattr(model, "config", None)
    values: dict[str, Any] = config.to_dict() if hasattr(config, "to_dict") else {}
    name = type(model).__name__
    task_type = next((kind for end, kind in _TASK_TYPES.items() if name.endswith(end)), "")
    return ModelFacts(
        path=name,
        model_type=str(values.get("model_type", "")),
        family=_family(values),
        config=values,
        weights={name: tuple(weight.shape) for name, weight in model.named_parameters()},
        peft_task_type=task_type,
    )


def _family(config: dict[str, Any]) -> Family:
    if not config:
        return "unknown"
    if config.get("is_encoder_decoder"):
        return "encoder_decoder"
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as DECODERS
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES as ENCODERS

    kind = config.get("model_type")
    if kind in ENCODERS and not config.get("is_decoder"):
        return "encoder"
    return "decoder" if kind in DECODERS else "unknown"


def _heads_of(model: nn.Module) -> tuple[str, ...]:
    return tuple(name for name, _ in model.named_children() if name in _HEADS)

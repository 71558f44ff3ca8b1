"""A tuning method on a model that somebody has in hand, without a recipe."""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from peftlab.core.config import Document, build_config
from peftlab.core.errors import ConfigError, UnsupportedError, did_you_mean
from peftlab.core.given_values import check_kind
from peftlab.core.known_warnings import without_known_warnings
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
    called: give the method itself, and call its ``after_step`` and ``penalty``. EVA, CorDA and LoRA-GA are plain LoRA
    until their ``take_rows`` was called.

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
        ConfigError: There is no such method, or it has no such key; or an argument is of another type.
        UnsupportedError: The method does not go on this model, with the reason.
    """
    _check_model(model)
    if isinstance(method, str):
        document = Document(source=f"wrap(…, {method!r})", values=settings)
        method = build_config(METHODS.get(method), settings, document=document)
    elif not isinstance(method, Method):
        raise ConfigError(
            f"the name of a method, or a method, is needed, not {method!r}",
            where="wrap(…): method",
            hint="Write wrap(model, 'lora', rank=8), or wrap(model, METHODS['lora'](rank=8)).",
        )
    elif settings:
        raise TypeError("wrap takes settings with a method's name; a method that is given has its own")
    from torch import nn

    facts = facts_of(model)
    heads = _heads_of(model) if head_modules is None else _checked_heads(head_modules, model)
    task_type = facts.peft_task_type
    if method.extra_positions():
        _check_token_embeddings(model, method, facts)
        task_type = task_type or "FEATURE_EXTRACTION"  # peft puts virtual tokens before the texts of a known task alone
    method.check(facts)
    context = MethodContext(
        peft_task_type=task_type or None,
        total_steps=_checked_steps(total_steps),
        head_modules=heads,
        family=facts.family,
    )
    try:
        with without_known_warnings():
            wrapped = method.apply(model, context)
    except ValueError as error:  # peft's own refusals
        first = (str(error).splitlines() or [type(error).__name__])[0]
        hint = None if list(model.children()) else "It is a single layer; put it into a module: nn.Sequential(layer)."
        raise UnsupportedError(f"{method.registered_name} does not go on {facts.path}: {first}", hint=hint) from None
    check_kind(wrapped, nn.Module, what=f"apply of {method.registered_name}", hint="Return the model to train.")
    if not any(parameter.requires_grad for parameter in wrapped.parameters()):
        raise UnsupportedError(f"{method.registered_name} trains nothing in {facts.path}: it has no such parameters")
    return wrapped


def _check_model(model: Any) -> None:
    from torch import nn

    if not isinstance(model, nn.Module):
        raise ConfigError(
            f"a torch model is needed, not {reprlib.repr(model)}",
            where="wrap(…): model",
            hint="Load it first, such as transformers.AutoModel.from_pretrained(path).",
        )
    if any(type(module).__module__.partition(".")[0] == "peft" for module in model.modules()):
        raise UnsupportedError(
            "the model has an adapter already",
            where="wrap(…): model",
            hint="Make it a part of the model first: model = model.merge_and_unload().",
        )


def _checked_heads(names: Any, model: nn.Module) -> tuple[str, ...]:
    """Names of modules that are there."""
    where, known = "wrap(…): head_modules", [name for name, _ in model.named_modules() if name]
    if isinstance(names, str) or not isinstance(names, Sequence):
        raise ConfigError(f"a list of names is needed, not {names!r}", where=where, hint="As in ['classifier'].")
    for name in names:
        if not any(own == name or own.endswith(f".{name}") for own in known):
            hint = did_you_mean(str(name), known)
            raise ConfigError(f"the model has no module `{name}`", where=where, hint=hint)
    return tuple(names)


def _checked_steps(steps: Any) -> int:
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 0:
        raise ConfigError(f"a number of steps is needed, not {steps!r}", where="wrap(…): total_steps")
    return steps


def _check_token_embeddings(model: Any, method: Method, facts: ModelFacts) -> None:
    from torch import nn

    embeddings = model.get_input_embeddings() if hasattr(model, "get_input_embeddings") else None
    if not isinstance(embeddings, nn.Embedding):
        raise UnsupportedError(
            f"{method.registered_name} puts virtual tokens before a text, and {facts.path} has no embeddings of tokens",
            hint="Choose a method that goes on any layer, such as lora.",
        )


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

"""What can be said of a recipe's memory without torch: the least that it takes, and roughly what it takes.

The least is what weights, gradients and the optimizer's state fill; ``peftlab validate`` warns when not even that fits.
"""

from __future__ import annotations

import math

from peftlab.core.model_facts import ModelFacts
from peftlab.core.optimizer import OptimizerConfig
from peftlab.recipe.schema import Recipe
from peftlab.training.optimizer_choice import optimizer_name

WEIGHT_BYTES = {"float32": 4.0, "bfloat16": 2.0, "float16": 2.0}
MATRIX_BYTES = {"nf4": 0.5, "fp4": 0.5, "int8": 1.0, "cpu": 0.0, "disk": 0.0}
"""Of each weight of a matrix that is quantised, or offloaded."""
STATE_BYTES = {"adamw": 8, "adamw_8bit": 2, "paged_adamw_8bit": 0, "lion_8bit": 1, "sgd": 4}
"""An optimizer's state for each trained weight, at least."""
ACTIVATION_BYTES = 160
"""More than most models keep for a number of each layer's hidden state; only for deciding what not to look at."""

PROBABILITY_BYTES = 32
"""More than plain attention keeps for each pair of tokens and each head."""


def least_bytes(recipe: Recipe, facts: ModelFacts, *, device: str) -> int | None:
    """A floor under the memory of training.

    Args:
        recipe: Checked.
        facts: Of its model.
        device: ``cpu`` or ``cuda``: ``dtype: auto`` depends on it.

    Returns:
        Bytes, or None where the sizes of the weights are unknown.
    """
    if not facts.weights:
        return None
    frozen, dtype = not recipe.method.trains_base, recipe.model.dtype
    if dtype == "auto":
        dtype = "bfloat16" if device == "cuda" else "float32"
    # What trains is in float32, whatever the base was loaded in.
    each = WEIGHT_BYTES[dtype] if frozen else 2 * WEIGHT_BYTES["float32"] + _state_bytes(recipe.training.optimizer)
    moved = recipe.model.quantization or recipe.model.offload
    matrices = {f"{name}.weight" for name in facts.linear_modules()} if moved else set()
    packed = MATRIX_BYTES.get(moved or "", each)
    sizes = ((name, math.prod(shape)) for name, shape in facts.weights.items())
    return int(sum(size * (packed if name in matrices else each) for name, size in sizes))


def _state_bytes(optimizer: str | OptimizerConfig) -> int:
    has_none = getattr(optimizer, "momentum", None) == 0
    return 0 if has_none else STATE_BYTES.get(optimizer_name(optimizer), 0)


def is_surely_small(recipe: Recipe, facts: ModelFacts, *, texts: int, length: int, device: str, memory: int) -> bool:
    """Whether a recipe takes so little of the memory that an exact estimate is not worth its seconds.

    Args:
        recipe: Checked.
        facts: Of its model.
        texts: Of a batch.
        length: Of a text, padding included.
        device: ``cpu`` or ``cuda``.
        memory: Of the device, in bytes.
    """
    least = least_bytes(recipe, facts, device=device)
    of_text = text_bytes(facts, length)
    if least is None or of_text is None:
        return False
    return 4 * least + texts * of_text < memory / 4


def text_bytes(facts: ModelFacts, length: int) -> int | None:
    """What a text's activations take at most, or None where the model's sizes are unknown.

    It is more than what is kept without checkpointing, by attention that keeps its probabilities.
    """
    layers = _first(facts, "num_hidden_layers", "n_layer", "n_layers")
    hidden = _first(facts, "hidden_size", "n_embd", "dim")
    heads = _first(facts, "num_attention_heads", "n_head", "n_heads")
    if layers is None or hidden is None or heads is None:
        return None
    return layers * length * (hidden * ACTIVATION_BYTES + heads * length * PROBABILITY_BYTES)


def _first(facts: ModelFacts, *keys: str) -> int | None:
    return next((value for key in keys if isinstance(value := facts.config.get(key), int)), None)

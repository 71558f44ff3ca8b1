"""What methods hold while they look at training rows: the estimate knows it from shapes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from peftlab.core.config import Document
from peftlab.core.method import MethodContext
from peftlab.core.tensors import model_tensors
from peftlab.estimate.bare_job import Batch, placeholder_batch
from peftlab.estimate.target import Target
from peftlab.estimate.training import ShapesOfRecipe
from peftlab.measurement.memory import peak_of
from peftlab.models.base_model import checkpoint_activations, load_base_model
from peftlab.preparation.check import CheckedModel, check_model
from peftlab.recipe.schema import build_recipe
from peftlab.training.rows_ahead import EncodedRows

pytestmark = pytest.mark.slow
LABELS = ("a", "b")


def checked(
    model: Path, *, checkpointing: bool = False, quantization: str | None = None, **method: object
) -> CheckedModel:
    values = {
        "model": {"path": str(model), "quantization": quantization},
        "task": {"type": "text_classification", "max_length": 24},
        "data": {"source": "none.csv"},
        "method": {"rank": 4, **method},
        "training": {"batch_size": 8, "gradient_checkpointing": checkpointing},
    }
    document = Document(source="test", values=values)
    return check_model(build_recipe(document, default_name="test"), document, offline=True, need_weights=False)


def loaded(own: CheckedModel, *, quantization: str | None) -> tuple[Any, tuple[str, ...]]:
    """The base with its head, and the head's modules."""
    model = own.recipe.model.model_copy(update={"quantization": quantization})
    torch.manual_seed(0)
    base = load_base_model(
        str(own.model_location), model, own.recipe.task.head(LABELS), dtype=torch.float32, dropout=0.0, pad_token_id=0,
        offline=True,
    )  # fmt: skip
    return base.model, base.head_modules


def wrapped_base(own: CheckedModel) -> tuple[nn.Module, Any]:
    """The base in its method's hands, and alone."""
    base, heads = loaded(own, quantization=own.recipe.model.quantization)
    context = MethodContext(own.recipe.task.peft_task_type, 9, head_modules=heads, family=own.facts.family)
    return own.recipe.method.apply(base, context), base


def measured(own: CheckedModel, batch: Batch) -> int:
    """The peak while a model of numbers begins, with rows for two batches."""
    recipe, (wrapped, base) = own.recipe, wrapped_base(own)
    if recipe.training.gradient_checkpointing:
        checkpoint_activations(base, recipe.model)
    rows = EncodedRows(recipe.task, [*batch.examples] * 2, 0, torch.device("cpu"), seed=0, at_once=8)
    return peak_of(
        lambda: recipe.method.take_rows(wrapped, rows), device=torch.device("cpu"), existing=model_tensors(wrapped)
    )[1]


@pytest.mark.parametrize("model", ["tiny_bert", "tiny_gpt2"])
@pytest.mark.parametrize(
    ("name", "checkpointing"), [("corda", False), ("eva", False), ("lora_ga", False), ("lora_ga", True)]
)
def test_it_is_told(model: str, name: str, checkpointing: bool, request: pytest.FixtureRequest) -> None:
    own = checked(request.getfixturevalue(model), type=name, checkpointing=checkpointing)
    batch = placeholder_batch(own.recipe.task, LABELS, size=8, length=24)
    found = ShapesOfRecipe(own, LABELS, Target("cpu", None)).memory(batch).phases["start"]
    assert found == pytest.approx(measured(own, batch), rel=0.03)


def test_what_is_compared_with_the_base_in_full_is_told(tiny_bert: Path) -> None:
    own = checked(tiny_bert, type="loftq", quantization="nf4")
    batch = placeholder_batch(own.recipe.task, LABELS, size=8, length=24)
    found = ShapesOfRecipe(own, LABELS, Target("cpu", None)).memory(batch).phases["load"]
    method, (wrapped, _), (original, _) = own.recipe.method, wrapped_base(own), loaded(own, quantization=None)
    peak = peak_of(
        lambda: method.take_original(wrapped, original),
        device=torch.device("cpu"),
        existing=[*model_tensors(wrapped), *original.parameters()],
    )[1]
    assert found == pytest.approx(peak, rel=0.03)


def test_others_have_no_such_phase_and_what_a_card_need_not_hold_is_not_counted(tiny_bert: Path) -> None:
    lora, corda = checked(tiny_bert, type="lora"), checked(tiny_bert, type="corda")
    batch = placeholder_batch(lora.recipe.task, LABELS, size=8, length=24)
    card = Target("cuda", None)
    plain, moved = (ShapesOfRecipe(own, LABELS, card).memory(batch) for own in (lora, corda))
    assert "start" not in plain.phases
    assert moved.phases["start"] > moved.phases["load"]
    assert moved.memory.peak_bytes == plain.memory.peak_bytes

"""Gradient checkpointing with every method: a run passes its guards, or is refused before it begins."""

from __future__ import annotations

from pathlib import Path

import pytest
import transformers.modeling_utils

from peftlab.core.config import Document
from peftlab.core.errors import UnsupportedError
from peftlab.preparation.check import check_recipe
from peftlab.recipe.schema import build_recipe
from peftlab.run.run import run_recipe
from tests.small_methods import DISTINCT, method_section

pytestmark = pytest.mark.slow

GUARDS = ("trainable_parameters", "gradients", "loss_finite", "adapter_changed", "reload_agrees")


@pytest.fixture
def checkpointed(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What has been computed under checkpointing."""
    real, seen = transformers.modeling_utils.checkpoint, []

    def checkpoint(function, *arguments, **options):
        seen.append(function)
        return real(function, *arguments, **options)

    monkeypatch.setattr(transformers.modeling_utils, "checkpoint", checkpoint)
    return seen


@pytest.mark.parametrize("model", ["tiny_bert", "tiny_gpt2"])
@pytest.mark.parametrize("name", DISTINCT)
def test_every_method_learns_under_checkpointing_or_is_refused(
    name: str, model: str, reviews: Path, tmp_path: Path, checkpointed: list[object], request: pytest.FixtureRequest
) -> None:
    values = {
        "model": {"path": str(request.getfixturevalue(model))},
        "task": {"type": "text_classification", "max_length": 24},
        "data": {"source": str(reviews), "validation_fraction": 0.1, "max_train_examples": 64},
        "method": method_section(name),
        "training": {"max_steps": 8, "batch_size": 8, "gradient_checkpointing": True},
        "measure": False,
    }
    document = Document(source="test", values=values)
    recipe = build_recipe(document, default_name="tiny")
    if not recipe.method.supports_gradient_checkpointing:
        with pytest.raises(UnsupportedError, match="does not work with gradient checkpointing"):
            check_recipe(recipe, document, offline=True)
        return
    record = run_recipe(recipe, document, output_dir=tmp_path / "run", offline=True).record
    assert record.status == "success", record.error
    assert checkpointed
    for guard in GUARDS:
        assert record.guards[guard].status == "passed", (guard, record.guards[guard].detail)

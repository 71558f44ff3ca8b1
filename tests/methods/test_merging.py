"""Merged weights give the unmerged model's answers, and files of adapters are small and load in silence."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from peftlab.artifact.load_artifact import load_artifact
from peftlab.artifact.merge import merge
from peftlab.artifact.save import save_artifact
from peftlab.core.method import METHODS, Method
from peftlab.testing.method_training import logits_of
from peftlab.testing.tiny_models import KINDS, NoTokenizer
from tests.small_methods import PEFT_ADAPTERS, small_method

KIND = {kind.name: kind for kind in KINDS}


def moved(method: Method, kind: str, *, begun: int = 0, seed: int = 1) -> Any:
    """A wrapped model that has begun by one seed, and whose trained weights are moved by another."""
    base = KIND[kind].build()
    torch.manual_seed(begun)
    model = method.apply(base, KIND[kind].context())
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter), alpha=0.05)
    return model.eval()


def saved(model: Any, method: Method, kind: str, folder: Path) -> Path:
    context = KIND[kind].context()
    return save_artifact(model, method, folder=folder, tokenizer=NoTokenizer(), context=context, base_path="some/base")


@pytest.mark.parametrize("name", ["ia3", *PEFT_ADAPTERS])
def test_a_head_of_several_layers_is_merged_too(name: str) -> None:
    """peft took RoBERTa's, which has no weight of its own, for a layer to unload: fifteen methods could not be merged."""
    method = small_method(name)
    model = moved(method, "roberta")
    before = logits_of(model, KIND["roberta"])
    merged = merge(model, method)
    assert "modules_to_save" not in str(merged)
    assert torch.allclose(logits_of(merged, KIND["roberta"]), before, atol=1e-4)
    assert not torch.allclose(logits_of(KIND["roberta"].build(), KIND["roberta"]), before, atol=1e-3)


def test_a_pruned_adapter_is_loaded_without_a_warning(tmp_path: Path) -> None:
    method = METHODS["adalora"]()
    model = moved(method, "bert")
    saved(model, method, "bert", tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = load_artifact(KIND["bert"].build, tmp_path)
    assert torch.allclose(logits_of(again, KIND["bert"]), logits_of(model, KIND["bert"]), atol=1e-5)


def test_a_file_without_the_random_bases_is_small_and_says_the_same(tmp_path: Path) -> None:
    sizes = []
    for save_projection in (True, False):
        method = METHODS["randlora"](save_projection=save_projection)
        model = moved(method, "bert")
        adapter = saved(model, method, "bert", tmp_path / str(save_projection))
        sizes.append((adapter / "adapter_model.safetensors").stat().st_size)
        again = load_artifact(KIND["bert"].build, tmp_path / str(save_projection))
        assert torch.equal(logits_of(again, KIND["bert"]), logits_of(model, KIND["bert"]))
    assert sizes[1] < sizes[0] / 4

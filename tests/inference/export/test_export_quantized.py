"""A quantised base is dequantised before it is exported; what that changes is measured, and said."""

from __future__ import annotations

import json
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from test_export import told_by_run
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from transformers.quantizers.quantizer_bnb_4bit import Bnb4BitHfQuantizer

from peftlab.artifact.saved_export import ExportDescription, read_export
from peftlab.artifact.saved_run import checkpoint_of
from peftlab.cli.export import _summary
from peftlab.core.errors import UserError
from peftlab.core.reporter import Silent
from peftlab.inference.export import export as exporting
from peftlab.inference.export.compose import Composition, export_composition
from peftlab.inference.export.export import export_run
from peftlab.inference.tuned_model import TunedModel

pytestmark = pytest.mark.slow

LOSS = 0.05
"""Accuracy that an export may lose: one of the few validation examples."""


class Listener(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


def export(run: Path, kind: str, output: Path) -> tuple[ExportDescription, str]:
    listener = Listener()
    done = export_run(run, kind, output, offline=True, reporter=listener, max_score_loss=LOSS)
    return done, "\n".join(listener.lines)


def plain_scores(folder: Path, texts: list[str]) -> list[list[float]]:
    """What transformers alone makes of a folder."""
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    with torch.inference_mode():
        return [model(**tokenizer(text, return_tensors="pt")).logits.softmax(-1)[0].tolist() for text in texts]


@pytest.mark.parametrize(
    ("base", "quantization", "tolerance"),
    [("bert", "nf4", 1e-3), ("bert", "int8", 0.2), ("gpt2", "nf4", 1e-3), ("gpt2", "int8", 0.2)],
)
def test_a_merged_export_is_a_plain_model(
    base: str, quantization: str, tolerance: float, tiny_run: Callable[..., Path], reviews: Path, tmp_path: Path
) -> None:
    run, out = tiny_run(base=base, quantization=quantization), tmp_path / "out"
    done, said = export(run, "merged", out)
    drift = done.check.logit_drift_of_dequantization
    assert drift is not None
    assert 0 <= drift < 2.0
    assert quantization == "nf4" or drift > 0  # 8-bit layers round activations too, and dequantised ones do not
    assert f"dequantising the base moves a logit by {drift:.4g} at most" in said
    assert f"dequantising moved a logit by {drift:.3g} at most" in _summary(done, out)
    assert f"quantised ({quantization})" in (out / "README.md").read_text()
    assert read_export(out) == done
    assert "quantization_config" not in json.loads((out / "config.json").read_text())
    assert all(tensor.dtype == torch.float32 for tensor in load_file(out / "model.safetensors").values())
    rows, texts = told_by_run(run, reviews)
    found = plain_scores(out, texts)
    equal = 0
    for row, scores in zip(rows, found, strict=True):
        assert scores == pytest.approx(row["scores"], abs=tolerance)
        equal += (scores[0] > scores[1]) == (row["scores"][0] > row["scores"][1])
    assert equal >= 0.95 * len(rows)


def test_onnx_of_a_quantised_run(tiny_run: Callable[..., Path], tmp_path: Path) -> None:
    """Of a method that cannot be folded: what can be is the merged model of above."""
    done, said = export(tiny_run("{type: houlsby_adapter}", quantization="int8"), "onnx", tmp_path / "out")
    assert done.check.equal_predictions >= 0.95
    assert done.check.logit_drift_of_dequantization is not None
    assert "dequantising the base" in said


def test_a_run_starts_from_the_dequantised_weights_of_another(
    tiny_run: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PEFTLAB_CACHE", str(tmp_path / "cache"))
    run, places = tiny_run(quantization="nf4"), []
    own = Bnb4BitHfQuantizer.update_device_map
    monkeypatch.setattr(
        Bnb4BitHfQuantizer, "update_device_map", lambda self, given: places.append(given) or own(self, given)
    )
    merged = Path(checkpoint_of(run, offline=True))
    assert places == [{"": "cpu"}], "for None transformers takes a card, onto which the plain weights may not fit"
    export(run, "merged", tmp_path / "out")
    there, here = load_file(merged / "model.safetensors"), load_file(tmp_path / "out" / "model.safetensors")
    assert there.keys() == here.keys()
    assert all(torch.allclose(there[name], here[name], atol=1e-6) for name in here)


def test_quantised_runs_are_not_combined(tiny_run: Callable[..., Path], tmp_path: Path) -> None:
    runs = [tiny_run(quantization="nf4"), tiny_run(quantization="nf4", seed=1)]
    with pytest.raises(UserError, match="quantised base cannot be combined"):
        export_composition(runs, Composition("linear"), "merged", tmp_path / "out", offline=True, reporter=Silent())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("quantization", ["nf4", "int8"])
def test_one_model_at_a_time(
    quantization: str, tiny_run: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large base has room for itself alone: what was asked before has given its memory back."""
    weights, models, held = list[weakref.ref[torch.nn.Parameter]](), list[torch.nn.Module](), list[int]()

    def kept(load: Callable[..., TunedModel]) -> Callable[..., TunedModel]:
        def load_and_keep(*args: Any, **settings: Any) -> TunedModel:
            held.append(sum(each() is not None for each in weights))
            tuned = load(*args, **settings)
            assert tuned.model is not None
            models.append(tuned.model)
            weights.extend(weakref.ref(each) for each in tuned.model.parameters())
            return tuned

        return load_and_keep

    for name in ("load_run", "load_export"):
        monkeypatch.setattr(exporting, name, kept(getattr(exporting, name)))
    export(tiny_run(quantization=quantization), "merged", tmp_path / "out")
    assert (held, len(models)) == ([0, 0, 0], 3)

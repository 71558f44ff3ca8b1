"""Language models are exported as plain transformers models; there is no ONNX file of them, and it is said why."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from ruamel.yaml import YAML
from transformers import AutoModelForCausalLM

from peftlab.core.errors import RunFailedError, UnsupportedError
from peftlab.core.reporter import Silent
from peftlab.inference.export.export import export_run
from peftlab.inference.load_tuned import load_run
from peftlab.recipe.schema import load_recipe
from peftlab.run.run import run_recipe
from tests.language_models import MACHINE_RECIPE

INSTRUCTIONS = "{type: instruction_tuning, prompt: text, response: label, max_length: 32, max_new_tokens: 4}"


def export(run: Path, kind: str, output: Path):
    return export_run(run, kind, output, offline=True, reporter=Silent())


@pytest.mark.parametrize(
    ("base", "task"),
    [
        ("gpt2", INSTRUCTIONS),
        ("gpt2", "{type: causal_lm, max_length: 32}"),
        ("bert", "{type: masked_lm, max_length: 32}"),
    ],
)
def test_a_merged_language_model(base: str, task: str, tiny_run: Callable[..., Path], tmp_path: Path) -> None:
    run = tiny_run(base=base, task=task, steps=20)
    check = export(run, "merged", tmp_path / "out").check
    assert check.scores == {"loss": pytest.approx(check.run_scores["loss"], abs=1e-5)}
    assert check.equal_predictions >= 0.999
    assert check.greatest_logit_difference < 1e-3
    assert "loss" in (tmp_path / "out" / "README.md").read_text()


def test_it_writes_what_the_run_writes(tiny_run: Callable[..., Path], tmp_path: Path) -> None:
    run = tiny_run(base="gpt2", task=INSTRUCTIONS, steps=20)
    export(run, "merged", tmp_path / "out")
    tuned = load_run(run, offline=True)
    prompt = tuned.tokenizer("we saw the lovely film\n", return_tensors="pt")
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    texts = [model.generate(**prompt, max_new_tokens=8, do_sample=False) for model in (tuned.model, plain)]
    assert torch.equal(*texts)


def test_another_model_is_not_kept(tiny_run: Callable[..., Path], tmp_path: Path, monkeypatch) -> None:
    import peftlab.artifact.merge

    monkeypatch.setattr(peftlab.artifact.merge, "merge", lambda model, method: model.unload())
    run = tiny_run(base="gpt2", task=INSTRUCTIONS, steps=20)
    with pytest.raises(RunFailedError, match=r"loss is worse by|a logit differs"):
        export(run, "merged", tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_there_is_no_onnx_file(tiny_run: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="instruction_tuning are not exported as onnx") as caught:
        export(tiny_run(base="gpt2", task=INSTRUCTIONS, steps=20), "onnx", tmp_path / "out")
    assert caught.value.hint == "Export it as `merged`, `gguf` or `gguf-q8`."
    with pytest.raises(UnsupportedError, match="cannot be folded") as caught:
        export(tiny_run("{type: prefix_tuning}", base="gpt2", task=INSTRUCTIONS, steps=2), "merged", tmp_path / "out")
    assert caught.value.hint.startswith("No format takes such a run. `peftlab serve` and `peftlab predict` use it as")
    assert not list(tmp_path.iterdir())


def test_the_card_of_a_model_from_nothing(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(MACHINE_RECIPE)
    recipe, document = load_recipe(tmp_path / "recipe.yaml")
    assert run_recipe(recipe, document, output_dir=tmp_path / "run").record.status == "success"
    export(tmp_path / "run", "merged", tmp_path / "out")
    for folder in (tmp_path / "run" / "model", tmp_path / "out"):
        _, front, body = (folder / "README.md").read_text().split("---\n", 2)
        metadata = YAML(typ="safe").load(front)
        assert "base_model" not in metadata
        assert metadata["license"] == "unknown"
        assert "A new gpt2 model, tuned with full" in body
        assert "Base model: none" in body
        assert "the task makes them" in body

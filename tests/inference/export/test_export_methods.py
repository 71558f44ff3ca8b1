"""Every method in every format: the export says what its run says, or the refusal says why."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from peftlab.core.errors import UnsupportedError
from peftlab.core.method import METHODS
from peftlab.core.reporter import Silent
from peftlab.inference.export.export import export_run
from tests.conftest import sentences
from tests.small_methods import DISTINCT, method_section

pytestmark = pytest.mark.slow
SETTINGS = {"adalora": "{type: adalora, initial_rank: 4, target_rank: 2}"}
STEPS = 20


def recipe_of(method: str) -> str:
    return SETTINGS.get(method, json.dumps(method_section(method)))


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory, tiny_bert: Path, tiny_gpt2: Path) -> dict[str, Path]:
    """The tiny models cut to their first layer: most of an export's time goes by the number of layers."""
    from transformers import AutoTokenizer, BertModel, GPT2LMHeadModel

    found = {}
    for name, base, loader in (("bert", tiny_bert, BertModel), ("gpt2", tiny_gpt2, GPT2LMHeadModel)):
        found[name] = tmp_path_factory.mktemp("models") / f"flat-{name}"
        loader.from_pretrained(base, num_hidden_layers=1).save_pretrained(found[name])
        AutoTokenizer.from_pretrained(base).save_pretrained(found[name])
    # A prefix goes to its own layer: one layer could not mix them up.
    return {**found, "bert-prefix_tuning": tiny_bert, "gpt2-prefix_tuning": tiny_gpt2}


@pytest.fixture
def made(tiny_run: Callable[..., Path], bases: dict[str, Path]) -> Callable[[str, str], Path]:
    """The run of a method on a base."""

    def run(method: str, base: str) -> Path:
        return tiny_run(recipe_of(method), base=bases.get(f"{base}-{method}", bases[base]), steps=STEPS)

    return run


@pytest.mark.parametrize("method", DISTINCT)
def test_merged(method: str, made: Callable[[str, str], Path], tmp_path: Path) -> None:
    run, output = made(method, "bert"), tmp_path / "out"
    if not METHODS.get(method).mergeable:
        with pytest.raises(UnsupportedError, match=f"what {method} trains cannot be folded") as caught:
            export_run(run, "merged", output, offline=True, reporter=Silent())
        assert "onnx" in (caught.value.hint or "")
        assert not list(tmp_path.iterdir())
        return
    check = export_run(run, "merged", output, offline=True, reporter=Silent()).check
    assert check.equal_predictions == 1.0
    assert check.scores == pytest.approx(check.run_scores, abs=1e-6)
    assert {item.name for item in output.iterdir()} >= {"config.json", "model.safetensors", "tokenizer.json"}


# On a decoder those that work otherwise there: on turned matrices, by a cache, and on embeddings.
ON_GPT2 = ("houlsby_adapter", "p_tuning", "prefix_tuning")


# What can be folded into the base is folded first (`test_merged`): what torch exports then is one and the same model.
# LoRA's is exported for strangers (`test_a_stranger_predicts_the_same`), and for numbers on a decoder.
ON_BERT = tuple(method for method in DISTINCT if not METHODS.get(method).mergeable)


@pytest.mark.parametrize(
    ("method", "base"), [*((method, "bert") for method in ON_BERT), *((method, "gpt2") for method in ON_GPT2)]
)
def test_onnx(method: str, base: str, made: Callable[[str, str], Path], tmp_path: Path) -> None:
    check = export_run(made(method, base), "onnx", tmp_path / "out", offline=True, reporter=Silent()).check
    assert check.equal_predictions == 1.0
    assert check.scores == pytest.approx(check.run_scores, abs=1e-6)


# Numbers too are exported in every format: `test_exports_give_the_unit_of_the_targets`.
TASKS = {
    "pairs": "{type: text_pair_classification, text: [text, other], label: label, max_length: 48}",
    "labels": "{type: text_classification, label: [good, bad], max_length: 32}",
}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows for tasks of every kind."""
    path, rows = tmp_path_factory.mktemp("data") / "rows.csv", sentences(120, seed=4)
    lines = ["text,other,label,good,bad"]
    for (text, label), (other, _) in zip(rows, reversed(rows), strict=True):
        lines.append(f"{text},{other},{label},{int(label == 'good')},{int(label == 'bad')}")
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize(
    ("task", "kind"),
    [*[(task, "merged") for task in TASKS], ("pairs", "onnx")],  # several labels are logits like one
)
def test_tasks(
    task: str, kind: str, tiny_run: Callable[..., Path], bases: dict[str, Path], table: Path, tmp_path: Path
) -> None:
    run = tiny_run(base=bases["bert"], task=TASKS[task], data=table, steps=STEPS)
    check = export_run(run, kind, tmp_path / "out", offline=True, reporter=Silent()).check
    assert check.equal_predictions == 1.0
    assert check.scores == pytest.approx(check.run_scores, abs=1e-4)

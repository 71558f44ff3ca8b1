"""FLOPs on shapes are those on numbers, take no memory, and count quantised products as the plain ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from peftlab.core.config import Document
from peftlab.core.reporter import Silent
from peftlab.estimate.bare_job import bare_job, placeholder_batch
from peftlab.estimate.flops import count_step_flops, is_cheap_to_count
from peftlab.estimate.target import Target
from peftlab.measurement.roofline import StepFlops, fit_step_flops
from peftlab.preparation import rehearsal
from peftlab.preparation.check import CheckedRecipe, check_recipe
from peftlab.preparation.loading import Loader
from peftlab.preparation.rehearsal import rehearse_flops
from peftlab.recipe.schema import build_recipe
from peftlab.training.accelerator import build_accelerator
from peftlab.training.optimizers import build_optimizer

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def fewer_lengths(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four lengths settle a parabola and the price of a term."""
    monkeypatch.setattr(rehearsal, "SAMPLES", 4)


def prepared(model: Path, data: Path, method: str = "lora", **settings: Any) -> tuple[CheckedRecipe, Loader]:
    values: dict[str, dict[str, Any]] = {
        "model": {"path": str(model)},
        "task": {"type": "text_classification", "max_length": 24},
        "data": {"source": str(data)},
        "method": {"type": method},
        "training": {"batch_size": 4, "max_steps": 10},
    }
    for key, value in settings.items():
        section, _, name = key.partition("__")
        values[section][name] = value
    document = Document(source="test", values=values)
    checked = check_recipe(build_recipe(document, default_name="test"), document, offline=True, reporter=Silent())
    return checked, Loader(checked, dtype=torch.float32, offline=True)


def on_shapes(checked: CheckedRecipe, loader: Loader) -> StepFlops:
    found = count_step_flops(checked, loader, Target("cpu", None), say=print)
    assert found is not None
    return found


def on_numbers(checked: CheckedRecipe, loader: Loader) -> StepFlops:
    recipe, wrapped = checked.recipe, loader.load_wrapped()
    accelerator = build_accelerator(computation=None, tracking=[], folder=Path())
    optimizer = accelerator.prepare(build_optimizer(wrapped.model, recipe.training, 1e-3))
    batch = placeholder_batch(recipe.task, checked.labels, size=1, length=8)
    job = bare_job(
        recipe, batch, model=wrapped.model, optimizer=optimizer, accelerator=accelerator, task=recipe.task
    )  # fmt: skip
    return rehearse_flops(replace(job, split=loader.splits["train"], pad_token_id=loader.tokenizer.pad_token_id))


@pytest.mark.parametrize(
    ("model", "method", "settings"),
    [
        ("bert", "full", {}),
        ("bert", "lora", {}),
        ("bert", "lora", {"method__dora": True}),
        ("bert", "adalora", {"training__gradient_checkpointing": True}),
        ("bert", "houlsby_adapter", {}),
        ("bert", "lora", {"model__quantization": "nf4"}),
        ("bert", "lora", {"model__quantization": "int8"}),
        ("gpt2", "prefix_tuning", {}),
        ("gpt2", "ia3", {"model__attention": "eager"}),
        ("gpt2", "lora", {"model__quantization": "fp4"}),
    ],
    ids=str,
)
def test_shapes_tell_what_numbers_do(
    model: str, method: str, settings: dict[str, Any], tiny_bert: Path, tiny_gpt2: Path, reviews: Path
) -> None:
    checked, loader = prepared({"bert": tiny_bert, "gpt2": tiny_gpt2}[model], reviews, method, **settings)
    shapes, numbers = on_shapes(checked, loader), on_numbers(checked, loader)
    for lengths in ([5], [8, 24, 13], [30] * 8):
        assert shapes.of(lengths) == pytest.approx(numbers.of(lengths), rel=1e-9)
    assert shapes.of([8]) > 0


@pytest.mark.parametrize("packing", [False, True], ids=["apart", "packed"])
def test_of_language_tasks_too(packing: bool, tiny_gpt2: Path, tmp_path: Path) -> None:
    (tmp_path / "chat.jsonl").write_text(
        "".join(f'{{"prompt": "say {n}", "response": "{"very " * (n % 7)}good"}}\n' for n in range(40))
    )
    task = {"type": "instruction_tuning", "max_length": 48, "packing": packing}
    settings = {f"task__{key}": value for key, value in task.items()}
    checked, loader = prepared(tiny_gpt2, tmp_path / "chat.jsonl", **settings)
    shapes, numbers = on_shapes(checked, loader), on_numbers(checked, loader)
    for length, terms in ((20, 5), (48, 30)):
        assert shapes.of([length], terms) == pytest.approx(numbers.of([length], terms), rel=1e-6)


def highest_memory() -> int:
    """The process's highest resident size since the last call."""
    lines = Path("/proc/self/status").read_text().splitlines()
    Path("/proc/self/clear_refs").write_text("5")
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM"))


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="memory is read from Linux's files")
def test_counting_takes_no_memory_however_long_the_texts(tiny_gpt2: Path, tmp_path: Path) -> None:
    """Plain attention keeps a number for each pair of tokens; shapes keep none, and the random generator stays put."""
    (tmp_path / "text.txt").write_text("\n".join(["a good day in town and then it was dark " * 30] * 60))
    task = {"task__type": "causal_lm", "task__max_length": 60, "data__test_fraction": 0, "data__validation_fraction": 0}
    checked, loader = prepared(tiny_gpt2, tmp_path / "text.txt", **task)
    assert is_cheap_to_count(checked, loader)
    config = {**checked.facts.config, "n_layer": 12, "n_embd": 1024, "n_head": 16, "n_positions": 4096, "n_ctx": 4096}
    long = replace(checked, facts=replace(checked.facts, config=config, weights=None))
    train = loader.splits["train"]
    ids = train.examples[0]["input_ids"] * 100
    examples = [
        {key: (value * 100)[:length] for key, value in train.examples[0].items()} for length in (1000, 2000, 4096)
    ]
    assert len(ids) >= 4096
    loader.splits["train"] = replace(train, examples=examples, index=range(3))
    assert not is_cheap_to_count(long, loader)
    before = torch.get_rng_state()
    highest_memory()
    start = highest_memory()
    found = on_shapes(long, loader)
    assert torch.equal(before, torch.get_rng_state())
    # At 4,096 tokens the probabilities of one layer alone are a gigabyte.
    assert found.of([4096]) > 1e12
    assert highest_memory() - start < 300 << 20


@pytest.mark.parametrize("kind", ["nf4", "fp4", "int8"])
def test_quantised_products_count_as_plain_ones(kind: str) -> None:
    """Forward and backward, in two dimensions and three."""
    bitsandbytes = pytest.importorskip("bitsandbytes")
    plain = nn.Linear(64, 96).requires_grad_(False)
    if kind == "int8":
        layer = bitsandbytes.nn.Linear8bitLt(64, 96, has_fp16_weights=False)
    else:
        layer = bitsandbytes.nn.Linear4bit(64, 96, compute_dtype=torch.float32, quant_type=kind)
    layer.load_state_dict(plain.state_dict())
    layer = layer.to("cpu").requires_grad_(False)

    def count(module: nn.Module) -> StepFlops:
        def run(length: int, texts: int) -> None:
            module(torch.randn(texts, length, 64, requires_grad=True)).sum().backward()

        return fit_step_flops(run, [3, 5, 9])

    assert count(layer).of([7, 4]) == pytest.approx(count(plain).of([7, 4]))
    assert count(plain).of([1]) == pytest.approx(2 * 2 * 64 * 96)


def test_every_product_of_bitsandbytes_is_known() -> None:
    """A product that the counter does not know would make utilisation too low in silence."""
    pytest.importorskip("bitsandbytes")
    from peftlab.measurement.roofline import _quantized_flops

    schemas = {schema.name for schema in torch._C._jit_get_all_schemas() if schema.name.startswith("bitsandbytes::")}
    products = {name.partition("::")[2] for name in schemas if "gem" in name or "mm" in name or "matmul" in name}
    known = {str(packet).partition(".")[2] for packet in _quantized_flops()}
    assert products - known == {"int8_mm_dequant"}  # scales a product's result, and multiplies nothing

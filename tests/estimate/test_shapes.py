"""Estimates agree with what training really takes: on tiny models here, and in the committed table."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest
import torch
import transformers

from peftlab.acceleration import rotary
from peftlab.core.config import Document
from peftlab.core.errors import UnsupportedError
from peftlab.core.method import MethodContext
from peftlab.estimate.bare_job import bare_job, placeholder_batch
from peftlab.estimate.bounds import is_surely_small, least_bytes
from peftlab.estimate.recipe import estimate_recipe
from peftlab.estimate.target import Target
from peftlab.estimate.training import ShapesOfRecipe
from peftlab.models.base_model import checkpoint_activations, load_base_model
from peftlab.preparation.check import check_model
from peftlab.preparation.rehearsal import rehearse_memory
from peftlab.recipe.schema import build_recipe
from peftlab.tasks.text_classification import TextClassification
from peftlab.training.accelerator import build_accelerator
from peftlab.training.optimizers import build_optimizer

pytestmark = pytest.mark.slow
TABLE = Path(__file__).parents[2] / "benchmarks" / "memory" / "results" / "estimates.json"
CPU = Target("cpu", None)
LABELS = ("a", "b")


def checked_model(model: Path, method: str, **settings):
    values = {
        "model": {"path": str(model)},
        "task": {"type": "text_classification", "max_length": 24},
        "data": {"source": "none.csv"},
        "method": {"type": method},
        "training": {"batch_size": 8},
    }
    for key, value in settings.items():
        section, _, name = key.partition("__")
        values[section][name] = value
    document = Document(source="test", values=values)
    return check_model(build_recipe(document, default_name="test"), document, offline=True, need_weights=False)


def measured(checked, batch) -> int:
    recipe, method = checked.recipe, checked.recipe.method
    torch.manual_seed(0)
    base = load_base_model(
        str(checked.model_location), recipe.model, recipe.task.head(LABELS), dtype=torch.float32,
        dropout=None if method.trains_base else 0.0, pad_token_id=0, offline=True,
    )  # fmt: skip
    context = MethodContext(
        recipe.task.peft_task_type, 1000, head_modules=base.head_modules, family=checked.facts.family
    )
    model = method.apply(base.model, context)
    if recipe.training.gradient_checkpointing:
        checkpoint_activations(base.model, recipe.model)
    accelerator = build_accelerator(computation=None, tracking=[], folder=Path())
    optimizer = accelerator.prepare(build_optimizer(model, recipe.training, 1e-3))
    job = bare_job(recipe, batch, model=model, optimizer=optimizer, accelerator=accelerator, task=recipe.task)
    return rehearse_memory(job).peak_bytes


TRAININGS = [
    ("full", {"training__optimizer": "adafactor"}),
    ("full", {"training__optimizer": "galore_adamw"}),
    ("lora", {"training__gradient_checkpointing": True, "model__quantization": "nf4"}),
    ("lora", {"model__quantization": "int8"}),
    ("adalora", {"training__optimizer": "adamw_8bit"}),
    ("prompt_tuning", {"training__gradient_checkpointing": True}),
    ("houlsby_adapter", {"model__quantization": "fp4"}),
    ("lora", {"method__dora": True}),
    ("lora", {"method__dora": True, "model__quantization": "nf4"}),
    ("lora", {"method__dora": True, "model__quantization": "int8"}),
]
"""Settings that are not a method's own: those are tried by the contract of methods, for each."""


@pytest.mark.parametrize(
    ("model", "method", "settings"),
    [
        *[("tiny_bert", *training) for training in TRAININGS],
        # Turned matrices, a cache, and the memory of checkpoints are other ones in a decoder.
        *[("tiny_gpt2", *TRAININGS[at]) for at in (1, 2, 5, 8)],
    ],
    ids=str,
)
def test_shapes_tell_what_training_takes(model: str, method: str, settings, request: pytest.FixtureRequest) -> None:
    checked = checked_model(request.getfixturevalue(model), method, **settings)
    batch = placeholder_batch(checked.recipe.task, LABELS, size=8, length=24)
    estimated = ShapesOfRecipe(checked, LABELS, CPU).memory(batch).memory.peak_bytes
    assert estimated == pytest.approx(measured(checked, batch), rel=0.03)


LANGUAGE = [
    ("tiny_gpt2", "full", {"task__type": "causal_lm"}),
    ("tiny_gpt2", "lora", {"task__type": "causal_lm", "training__gradient_checkpointing": True}),
    ("tiny_gpt2", "prompt_tuning", {"task__type": "causal_lm"}),
    ("tiny_gpt2", "lora", {"task__type": "instruction_tuning", "model__quantization": "nf4"}),
    ("tiny_gpt2", "lora", {"task__type": "instruction_tuning", "task__packing": True}),
    ("tiny_gpt2", "lora", {"task__type": "turing_machine"}),
    ("tiny_bert", "full", {"task__type": "masked_lm"}),
    ("tiny_bert", "lora", {"task__type": "masked_lm", "model__quantization": "int8"}),
]


@pytest.mark.parametrize(("model", "method", "settings"), LANGUAGE, ids=str)
def test_losses_over_a_vocabulary_too(model: str, method: str, settings, request: pytest.FixtureRequest) -> None:
    checked = checked_model(request.getfixturevalue(model), method, **settings)
    batch = placeholder_batch(checked.recipe.task, LABELS, size=8, length=24)
    found = ShapesOfRecipe(checked, LABELS, CPU).memory(batch)
    assert found.memory.peak_bytes == pytest.approx(measured(checked, batch), rel=0.03)
    assert found.loss_terms == 8 * 24 - 1  # one of the texts is a token shorter


def test_fewer_labels_take_less(tiny_gpt2: Path) -> None:
    """A batch of data has the labels that it has, not as many as there could be."""
    checked = checked_model(tiny_gpt2, "lora", task__type="instruction_tuning")
    every = placeholder_batch(checked.recipe.task, LABELS, size=8, length=24)
    few = [{**example, "labels": [-100] * 20 + example["labels"][20:]} for example in every.examples]
    some = type(every)(few, every.lengths, every.step)
    shapes = ShapesOfRecipe(checked, LABELS, CPU)
    all_of_them, some_of_them = shapes.memory(every), shapes.memory(some)
    assert (all_of_them.loss_terms, some_of_them.loss_terms) == (8 * 24 - 1, 8 * 4 - 1)
    assert some_of_them.memory.peak_bytes < all_of_them.memory.peak_bytes
    assert some_of_them.memory.peak_bytes == pytest.approx(measured(checked, some), rel=0.03)


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_llama_that_nothing_has_run_before(method: str, tmp_path: Path) -> None:
    """Its parts are tried for what they compute when they are first met: here, while there are shapes only."""
    rotary._is_known.cache_clear()
    config = transformers.LlamaConfig(
        vocab_size=60, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4
    )
    transformers.LlamaForCausalLM(config).save_pretrained(tmp_path)
    checked = checked_model(tmp_path, method)
    batch = placeholder_batch(checked.recipe.task, LABELS, size=8, length=24)
    estimated = ShapesOfRecipe(checked, LABELS, CPU).memory(batch).memory.peak_bytes
    assert estimated == pytest.approx(measured(checked, batch), rel=0.03)


def test_what_depends_on_values_is_refused_in_words(tiny_bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def training_loss(self, model, batch):
        return self.logits(model, batch).sum() * float(batch["labels"].sum())

    monkeypatch.setattr(TextClassification, "training_loss", training_loss)
    checked = checked_model(tiny_bert, "lora")
    with pytest.raises(UnsupportedError, match="cannot be estimated from shapes"):
        estimate_recipe(checked, CPU)


def test_real_quantisation_still_works_after_an_estimate(tiny_bert: Path) -> None:
    """The library caches its code books: fake ones must not stay behind."""
    checked = checked_model(tiny_bert, "lora", model__quantization="nf4")
    batch = placeholder_batch(checked.recipe.task, LABELS, size=2, length=8)
    ShapesOfRecipe(checked, LABELS, CPU).memory(batch)
    assert measured(checked, batch) > 0


def test_checkpointing_keeps_nothing_below_the_lowest_adapter(tiny_bert: Path) -> None:
    def peak(targets: list[str]) -> int:
        checked = checked_model(
            tiny_bert, "lora", method__target_modules=targets, training__gradient_checkpointing=True
        )
        return measured(checked, placeholder_batch(checked.recipe.task, LABELS, size=32, length=24))

    assert peak(["encoder.layer.1.attention.self.query"]) < peak(["encoder.layer.0.attention.self.query"])


def test_a_config_alone_is_enough(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(
        json.dumps({"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 4096,
                    "num_hidden_layers": 8, "num_attention_heads": 32, "num_key_value_heads": 8,
                    "intermediate_size": 14336, "vocab_size": 128256})
    )  # fmt: skip
    checked = checked_model(tmp_path, "lora", model__quantization="nf4", training__gradient_checkpointing=True)
    found = estimate_recipe(checked, Target("cuda", 80 * 10**9), advise=False)
    assert found.fits
    # 1.75 G matrices' weights at half a byte, and an embedding of half a billion at two bytes.
    assert 1.8e9 < found.categories["parameters"] < 2.02e9
    assert 0.025e9 < found.categories["quantization_state"] < 0.0375e9
    assert sum(found.categories.values()) == found.memory.memory.peak_bytes
    small = estimate_recipe(checked, Target("cuda", 15 * 10**8), advise=False)
    assert not small.fits


def test_advice_gets_it_to_fit(tiny_bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checked = checked_model(tiny_bert, "full")
    whole = estimate_recipe(checked, CPU)
    assert whole.fits is None
    tight = estimate_recipe(checked, Target("cpu", int(whole.peak_bytes * 0.6)))
    assert tight.fits is False
    assert any(peak <= tight.target.memory_bytes for _, peak in tight.changes)
    assert tight.largest_batch_size is not None
    assert 1 <= tight.largest_batch_size < 8
    asked, memory = [], ShapesOfRecipe.memory
    monkeypatch.setattr(
        ShapesOfRecipe, "memory", lambda own, batch: asked.append((batch.size, batch.length)) or memory(own, batch)
    )
    roomy = estimate_recipe(checked, Target("cpu", whole.peak_bytes * 3))
    assert roomy.fits
    assert len(asked) == len(set(asked)) > 2  # an answer takes a second where a model is large
    assert roomy.largest_batch_size > 8
    assert roomy.changes == ()


def test_the_largest_batch_fits_beside_the_gradients_of_those_before(tiny_bert: Path) -> None:
    own = {"training__gradient_accumulation_steps": 4}
    checked = checked_model(tiny_bert, "full", **own)
    target = Target("cpu", int(estimate_recipe(checked, CPU).peak_bytes * 1.3))
    found = estimate_recipe(checked, target)
    largest = checked_model(tiny_bert, "full", **own, training__batch_size=found.largest_batch_size)
    assert estimate_recipe(largest, target, advise=False).fits


def test_no_change_is_proposed_that_a_run_would_refuse(tiny_bert: Path) -> None:
    """An optimizer that saves states of whole matrices has no use for a frozen base."""
    pytest.importorskip("pytorch_optimizer")
    checked = checked_model(tiny_bert, "full", training__optimizer="galore_adamw")
    changes = estimate_recipe(checked, Target("cpu", 100_000)).changes
    assert changes
    assert not any("method.type" in change.settings for change, _ in changes)
    plain = estimate_recipe(checked_model(tiny_bert, "full"), Target("cpu", 100_000)).changes
    assert any("method.type" in change.settings for change, _ in plain)


def test_the_floor_is_below_the_estimate(tiny_bert: Path) -> None:
    half = {"model__dtype": "bfloat16"}
    plain = {"training__optimizer": {"type": "sgd", "momentum": 0}}
    for method, settings in [
        ("full", {}),
        ("full", half),  # what trains is in float32
        ("full", half | {"training__optimizer": "sgd"}),
        ("full", plain),
        ("lora", {}),
        ("lora", {"model__quantization": "nf4"}),
    ]:
        checked = checked_model(tiny_bert, method, **settings)
        floor = least_bytes(checked.recipe, checked.facts, device="cpu")
        estimate = estimate_recipe(checked, CPU)
        assert floor is not None
        parts = estimate.categories
        assert 0 < floor <= (known := estimate.peak_bytes - parts["activations"] - parts["workspace"])
        if method == "full":
            assert floor > 0.9 * known
        assert not is_surely_small(
            checked.recipe, checked.facts, texts=8, length=24, device="cpu", memory=estimate.peak_bytes
        )


def test_a_few_long_texts_are_not_surely_small(tiny_bert: Path) -> None:
    """Attention grows with the square of the length: as many tokens in one text take more than in many."""
    checked = checked_model(tiny_bert, "lora")

    def is_small(texts: int, length: int) -> bool:
        return is_surely_small(checked.recipe, checked.facts, texts=texts, length=length, device="cpu", memory=2**31)

    assert is_small(256, 64)
    assert not is_small(1, 256 * 64)


def test_the_committed_table_keeps_its_promise() -> None:
    rows = json.loads(TABLE.read_text())["rows"]
    assert len(rows) >= 30
    assert len({row["model"] for row in rows}) >= 4
    assert {"full", "lora", "adalora", "prefix_tuning"} <= {row["method"] for row in rows}
    errors = [row["estimated_bytes"] / row["measured_bytes"] - 1 for row in rows]
    assert sum(abs(error) <= 0.03 for error in errors) >= 0.9 * len(errors)
    assert min(errors) >= -0.05


@pytest.mark.parametrize("case", ["distilbert-6x384 lora 16x128", "qwen2-4x512 lora 8x128 quantization=int8"])
def test_rows_of_the_committed_table_come_out_again(case: str, tmp_path: Path) -> None:
    (row,) = [row for row in json.loads(TABLE.read_text())["rows"] if row["case"] == case]
    config = runpy.run_path(str(TABLE.parents[1] / "cases.py"), run_name="cases")["RANDOM_MODELS"][row["model"]]
    (tmp_path / "config.json").write_text(json.dumps(config))
    settings = {key.replace(".", "__"): value for key, value in row["settings"].items()}
    checked = checked_model(tmp_path, row["method"], task__max_length=row["length"], **settings)
    labels = ("a", "b", "c")
    batch = placeholder_batch(checked.recipe.task, labels, size=row["batch_size"], length=row["length"])
    assert ShapesOfRecipe(checked, labels, CPU).memory(batch).memory.peak_bytes == pytest.approx(
        row["estimated_bytes"], rel=0.01
    )


@pytest.mark.gpu
@pytest.mark.parametrize("method", ["full", "lora"])
def test_on_cuda_the_allocator_agrees(method: str, tmp_path: Path) -> None:
    """A model large enough for its tensors to outweigh what the libraries take."""
    config = transformers.BertConfig(
        hidden_size=512, num_hidden_layers=6, num_attention_heads=8, intermediate_size=2048
    )
    transformers.BertModel(config).save_pretrained(tmp_path)
    settings = {"model__dtype": "float32", "training__precision": "float32", "training__cuda_graphs": "off"}
    checked = checked_model(tmp_path, method, **settings)
    batch = placeholder_batch(checked.recipe.task, LABELS, size=32, length=128)
    estimated = ShapesOfRecipe(checked, LABELS, Target("cuda", None)).memory(batch).memory.peak_bytes
    recipe = checked.recipe
    base = load_base_model(
        str(tmp_path), recipe.model, recipe.task.head(LABELS), dtype=torch.float32,
        dropout=None if recipe.method.trains_base else 0.0, pad_token_id=0, offline=True,
    )  # fmt: skip
    model = recipe.method.apply(base.model, MethodContext("SEQ_CLS", 1000, head_modules=base.head_modules)).cuda()
    accelerator = build_accelerator(computation=None, tracking=[], folder=Path())
    optimizer = accelerator.prepare(build_optimizer(model, recipe.training, 1e-3))
    job = bare_job(recipe, batch, model=model, optimizer=optimizer, accelerator=accelerator, task=recipe.task)
    assert estimated == pytest.approx(rehearse_memory(job).peak_bytes, rel=0.1)

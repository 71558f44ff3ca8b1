"""The side-by-side comparisons: the work, the same for both contestants."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.gpu.steps.material import write_labelled, write_responses, write_text
from benchmarks.gpu.steps.models import model_folder
from benchmarks.gpu.steps.recipes import write_recipe


@dataclass(frozen=True)
class Case:
    """One comparison.

    Args:
        model: Its name among the configs.
        task: The recipe's section.
        method: The recipe's section: a LoRA.
        batch_size: Examples in a step.
        steps: At full size; the first five do not count.
        repeats: Runs of each contestant, by turns.
        longest: Words of the longest text; 0: one text without an end, cut into blocks.
        quantization: Of the base.
        measure: Whether peftlab rehearses the run too, as is its default: before the steps that count, it would take
            more of the minutes than they do, and MFU is counted here all the same.
        acceleration: Of peftlab.
        contestants: By turns.
        published: What others have published for such work: figures and where they are from.
    """

    model: str
    task: dict[str, Any]
    method: dict[str, Any]
    batch_size: int
    steps: int
    repeats: int = 1
    longest: int = 0
    quantization: str | None = None
    measure: bool = True
    acceleration: str = "auto"
    contestants: tuple[str, ...] = ("trainer", "peftlab")
    published: dict[str, Any] = field(default_factory=dict)


PACKED = {"type": "causal_lm", "max_length": 4096}
ALL_LINEAR = {"type": "lora", "rank": 16, "alpha": 32, "target_modules": "all-linear"}
CASES: dict[str, Case] = {
    "bert_base": Case(
        "bert_base",
        {"type": "text_classification", "max_length": 128},
        {"type": "lora", "rank": 8, "alpha": 16, "target_modules": ["query", "value"]},
        batch_size=32,
        steps=60,
        longest=60,
        measure=False,
    ),
    "llama_3b": Case(
        "llama_3b",
        {"type": "instruction_tuning", "max_length": 768, "drop_too_long": True},
        {"type": "lora", "rank": 32, "alpha": 64, "target_modules": ["q_proj", "v_proj"]},
        batch_size=4,
        steps=25,
        longest=240,
        measure=False,
        published={"tokens_per_second": 7174, "peak_bytes": 22.3e9, "card": "L40S", "by": "peft's method comparison"},
    ),
    "llama_8b": Case(
        "llama_8b",
        PACKED,
        ALL_LINEAR,
        batch_size=1,
        steps=15,
        measure=False,
        published={"tokens_per_second": 12_473, "mfu": 0.41, "card": "H100"},
    ),
    "llama_8b_nf4": Case("llama_8b", PACKED, ALL_LINEAR, batch_size=1, steps=12, quantization="nf4", measure=False),
    "llama_8b_off": Case(
        "llama_8b",
        PACKED,
        ALL_LINEAR,
        batch_size=1,
        steps=15,
        measure=False,
        acceleration="off",
        contestants=("peftlab",),
    ),
}
TINY_STEPS = 7
TINY_LENGTH = 64


def prepare(name: str, scratch: Path, folder: Path, *, tiny: bool, device: str) -> tuple[Path, Path]:
    """Make a case's model in scratch, and its data and recipe in a folder.

    Returns:
        The recipe, and the model's folder.
    """
    case = CASES[name]
    model = model_folder(case.model, scratch, tiny=tiny, device=device)
    steps = TINY_STEPS if tiny else case.steps
    rows, longest = max(64, steps * case.batch_size), min(case.longest, 24) if tiny else case.longest
    task = dict(case.task)
    if tiny:
        task["max_length"] = TINY_LENGTH
    if case.longest == 0:
        data = write_text(folder / "code.txt", characters=6 * steps * case.batch_size * task["max_length"])
    elif task["type"] == "instruction_tuning":
        data = write_responses(folder / "responses.jsonl", rows, longest=longest)
    else:
        data = write_labelled(folder / "labelled.jsonl", rows, longest=longest)
    values = {
        "name": name,
        "measure": case.measure or device == "cpu",  # on a CPU no allocator tells the peak
        "model": {"path": model, "quantization": case.quantization, "acceleration": case.acceleration},
        "task": task,
        "data": {"source": {"train": data, "test": data}, "deduplicate": False, "validation_fraction": 0,
                 "max_test_examples": 8},
        "method": case.method,
        "training": {"max_steps": steps, "batch_size": case.batch_size, "learning_rate": 1e-4},
        "evaluation": {"test": False},
    }  # fmt: skip
    return write_recipe(folder / "recipe.yaml", values), model

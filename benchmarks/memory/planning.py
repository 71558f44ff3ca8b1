"""Which model can be tuned on which card: ``python benchmarks/memory/planning.py``.

Estimates from configs alone, for models that nobody needs to have. They are for CUDA; no such card has confirmed them.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import transformers

from peftlab.cli.output import quiet_libraries
from peftlab.core.config import Document
from peftlab.core.files import write_text
from peftlab.estimate.bare_job import placeholder_batch
from peftlab.estimate.target import Target
from peftlab.estimate.training import ShapesOfRecipe
from peftlab.preparation.check import check_model
from peftlab.recipe.schema import build_recipe

RESULTS = Path(__file__).parent / "results" / "planning.json"
LENGTH = 512
LABELS = ("a", "b")
CARDS = (8, 16, 24, 80)
"""GB, of 10⁹ bytes; so much of each is kept free for the driver, other programs and fragments."""
FREE = 0.08
SIZES = (1, 16, 32)
"""Micro-batches that are estimated; the others lie on the line through the last two."""
MOST = 512


def llama(hidden: int, layers: int, heads: int, intermediate: int, head_dim: int = 128) -> dict[str, Any]:
    """A config of the Llama 3 family."""
    return {
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": hidden,
        "num_hidden_layers": layers, "num_attention_heads": heads, "num_key_value_heads": 8, "head_dim": head_dim,
        "intermediate_size": intermediate, "vocab_size": 128256, "max_position_embeddings": 131072,
    }  # fmt: skip


MODELS: dict[str, dict[str, Any]] = {
    "BERT-large": {
        "model_type": "bert", "architectures": ["BertForMaskedLM"], "hidden_size": 1024, "num_hidden_layers": 24,
        "num_attention_heads": 16, "intermediate_size": 4096,
    },
    "GPT-2 XL": {
        "model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "n_embd": 1600, "n_layer": 48, "n_head": 25,
    },
    "Llama-3.2-3B": llama(3072, 28, 24, 8192),
    "Llama-3.1-8B": llama(4096, 32, 32, 14336),
    "Llama-3.1-70B": llama(8192, 80, 64, 28672),
}  # fmt: skip

VARIANTS: dict[str, dict[str, Any]] = {
    "full": {"method": {"type": "full"}},
    "LoRA": {"method": {"type": "lora"}},
    "QLoRA": {"method": {"type": "lora"}, "model": {"quantization": "nf4"}, "training": {"optimizer": "adamw_8bit"}},
}


def shapes_of(config: dict[str, Any], variant: dict[str, Any], folder: Path) -> tuple[ShapesOfRecipe, Any]:
    """A variant's model as shapes."""
    (folder / "config.json").write_text(json.dumps(config))
    values = {
        "data": {"source": "none.csv"},
        "task": {"type": "text_classification", "max_length": LENGTH},
        "method": variant["method"],
        "model": {"path": str(folder), **variant.get("model", {})},
        "training": {"gradient_checkpointing": True, **variant.get("training", {})},
    }
    document = Document(source="plan", values=values)
    checked = check_model(build_recipe(document, default_name="plan"), document, offline=True, need_weights=False)
    return ShapesOfRecipe(checked, LABELS, Target("cuda", None)), checked.recipe.task


def peaks(name: str, kind: str, layers: int, folder: Path) -> list[int]:
    """The peaks of micro-batches of SIZES, with so few layers."""
    config = dict(MODELS[name])
    config["n_layer" if "n_layer" in config else "num_hidden_layers"] = layers
    shapes, task = shapes_of(config, VARIANTS[kind], folder)
    batches = [placeholder_batch(task, LABELS, size=size, length=LENGTH) for size in SIZES]
    return [shapes.memory(batch).memory.peak_bytes for batch in batches]


def plan(name: str, kind: str, folder: Path) -> dict[str, Any]:
    """A row: the peak for one text, and the largest micro-batch of each card.

    A model's layers are alike, so its memory is a straight line over their number: two shallow models settle it.
    """
    depth = MODELS[name].get("n_layer") or MODELS[name]["num_hidden_layers"]
    few, more = (peaks(name, kind, layers, folder) for layers in (2, 4))
    one, many, twice = (low + (high - low) * (depth - 2) // 2 for low, high in zip(few, more, strict=True))
    # Small micro-batches may peak in the optimizer's step, whatever their size; larger ones in the backward pass.
    each = max(1, (twice - many) // (SIZES[2] - SIZES[1]))
    largest = {}
    for card in CARDS:
        room = int(card * 1e9 * (1 - FREE))
        largest[f"{card} GB"] = 0 if one > room else max(1, min(MOST, SIZES[1] + (room - many) // each))
    print(f"{name:14} {kind:6} {one / 1e9:7.2f} GB + {each / 1e6:7.1f} MB a text  {largest}", flush=True)
    return {"model": name, "variant": kind, "one_text_bytes": one, "further_text_bytes": each, "largest": largest}


def main() -> None:
    """Write the table, after each row."""
    quiet_libraries(offline=True)
    transformers.utils.logging.set_verbosity_error()
    table: dict[str, Any] = {"device": "cuda", "verified": False, "length": LENGTH, "rows": []}
    with tempfile.TemporaryDirectory() as folder:
        for name in MODELS:
            for kind in VARIANTS:
                table["rows"].append(plan(name, kind, Path(folder)))
                write_text(RESULTS, json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()

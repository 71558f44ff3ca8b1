"""What the recipes for one card take, by estimate: ``python benchmarks/memory/one_card.py``.

From the config of their base alone, as `peftlab estimate RECIPE --device cuda` does it. No such card has confirmed
them.
It writes `results/one_card.json`, and the tables of docs/tutorials/one_card.md.
"""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path
from typing import Any

import transformers

from peftlab.cli.output import quiet_libraries
from peftlab.core.files import write_text
from peftlab.estimate.recipe import estimate_recipe
from peftlab.estimate.target import Target
from peftlab.preparation.check import check_model
from peftlab.recipe.schema import load_recipe

ROOT = Path(__file__).resolve().parents[2]
RESULTS = Path(__file__).parent / "results" / "one_card.json"
PAGE = ROOT / "docs" / "tutorials" / "one_card.md"
CONFIG: dict[str, Any] = {
    "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_size": 3584, "intermediate_size": 18944,
    "num_hidden_layers": 28, "num_attention_heads": 28, "num_key_value_heads": 4, "vocab_size": 152064,
    "max_position_embeddings": 32768, "max_window_layers": 28, "sliding_window": None, "use_sliding_window": False,
    "tie_word_embeddings": False, "rms_norm_eps": 1e-06, "rope_theta": 1000000.0, "hidden_act": "silu",
    "attention_dropout": 0.0, "bos_token_id": 151643, "eos_token_id": 151645, "torch_dtype": "bfloat16",
}  # fmt: skip
"""Of Qwen2.5-7B-Instruct, as it lies on the Hub."""

LORA, QLORA = "instruction_tuning/qwen2_5_7b_lora", "instruction_tuning/qwen2_5_7b_qlora"
CLASSIFIER = "text_classification/qwen2_5_7b_qlora"
RECIPES = [(LORA, 24, 1024), (QLORA, 12, 1024), (QLORA, 12, 2048), (CLASSIFIER, 12, 512)]
"""With the card's GB of 10⁹ bytes, by which the chunks of the loss are cut, and the tokens of a text."""
ONE = "training.micro_batch_size=1"
NF4, PAGED, SHORT = "model.quantization=nf4", "training.optimizer=paged_adamw_8bit", "task.max_length=512"
CHANGES = [
    ("LoRA, one text of 1,024 tokens at once, nothing else", ["training.gradient_checkpointing=false", ONE]),
    ("`--set training.gradient_checkpointing=true`", [ONE]),
    ("`--set model.quantization=nf4`", [ONE, NF4]),
    ("`--set training.optimizer=paged_adamw_8bit`", [ONE, NF4, PAGED]),
    ("`--set task.max_length=512`", [ONE, NF4, PAGED, SHORT]),
    ("in the place of `nf4`: `--set model.offload=cpu`", [ONE, "model.offload=cpu"]),
]
"""Of the LoRA recipe, each with those before it, but for the last."""
SHALLOW = (2, 4)


def estimate(recipe: str, gigabytes: int, settings: list[str], folder: Path) -> dict[str, int]:
    """The peaks of a recipe's phases, and the highest.

    A model's layers are alike, so its memory is nearly a straight line over their number: two shallow models settle it,
    in a tenth of the time. With all 28 layers QLoRA's peak at 1,024 tokens is 0.3 % more.
    """
    few, more = (phases_of(recipe, gigabytes, settings, config_folder(folder, layers)) for layers in SHALLOW)
    first, second = SHALLOW
    rest = (CONFIG["num_hidden_layers"] - first) // (second - first)
    phases = {name: few[name] + (more[name] - few[name]) * rest for name in few}
    peak = max(phases.values())
    print(f"{peak / 1e9:7.2f} GB  {recipe} {' '.join(settings)}  {phases}", flush=True)
    return {"peak": peak, **phases}


def phases_of(recipe: str, gigabytes: int, settings: list[str], folder: Path) -> dict[str, int]:
    """The peak of each phase, as `peftlab estimate` finds it."""
    loaded, document = load_recipe(recipe, [f"model.path={folder}", *settings])
    checked = check_model(loaded, document, offline=True, need_weights=False)
    return dict(estimate_recipe(checked, Target("cuda", gigabytes * 10**9), advise=False).memory.phases)


def config_folder(folder: Path, layers: int = CONFIG["num_hidden_layers"]) -> Path:
    """A model's folder with nothing but its config."""
    write_text(folder / "config.json", json.dumps({**CONFIG, "num_hidden_layers": layers, "max_window_layers": layers}))
    return folder


def main() -> None:
    """Estimate, and write both."""
    quiet_libraries(offline=True)
    transformers.utils.logging.set_verbosity_error()
    results: dict[str, Any] = {"device": "cuda", "verified": False, "recipes": [], "changes": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for recipe, gigabytes, length in RECIPES:
            found = estimate(recipe, gigabytes, [f"task.max_length={length}", ONE], folder)
            results["recipes"].append({"recipe": recipe, "card": gigabytes, "length": length, **found})
        for change, settings in CHANGES:
            results["changes"].append({"change": change, **estimate(LORA, 24, settings, folder)})
    write_text(RESULTS, json.dumps(results, indent=1) + "\n")
    page = PAGE.read_text(encoding="utf-8")
    for part in ("recipes", "changes"):
        page = re.sub(rf"(<!-- {part} -->\n).*?(<!-- end -->)", rf"\1{render(results, part)}\2", page, flags=re.DOTALL)
    write_text(PAGE, page)


def render(results: dict[str, Any], part: str) -> str:
    """A table of the page."""
    rows = results[part]
    if part == "changes":
        lines = ["| changed, with all above it | GB, by estimate |", "|---|---:|"]
        return "\n".join([*lines, *(f"| {row['change']} | {gb(row['peak'])} |" for row in rows)]) + "\n"
    lines = ["| recipe | card, GB | tokens of a text | one text at once, GB, by estimate |", "|---|---:|---:|---:|"]
    lines += [f"| `{row['recipe']}` | {row['card']} | {row['length']:,} | {gb(row['peak'])} |" for row in rows]
    return "\n".join(lines) + "\n"


def gb(count: int) -> str:
    """Bytes as GB of 10⁹."""
    return f"{count / 1e9:.1f}"


if __name__ == "__main__":
    main()

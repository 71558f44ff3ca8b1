"""DPO with LoRA of SmolLM2, side by side: trl's DPOTrainer with peft, and peftlab.

    python benchmarks/preference/write_pairs.py --data E2E_FOLDER --output PAIRS
    pip install trl==1.16.0 --no-deps --target TRL
    python benchmarks/peers/e2e_dpo.py --pairs PAIRS --trl TRL [--rows 128] [--repeats 3] [--output FILE.json]

All get the same base, the same pairs and tokens (it is checked), LoRA of rank 8 on every linear layer, batches of 8
pairs, one epoch, the same learning rate and beta, in float32. ``trl_defaults`` has all else as trl has it: it
computes the reference in each step, and every layer twice (gradient checkpointing). ``trl`` does neither: its
reference, like peftlab's, is computed before training, in no timed step. peftlab is compared with that. Each runs
alone in a fresh process, by turns; the runs of median speed are compared, the others told too.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import torch
from contest import (
    HERE,
    build_trainer,
    median_run,
    peak_of_training,
    print_outcome,
    run_alone,
    run_peftlab,
    write_result,
)

RECIPE = HERE.parents[1] / "recipes" / "preference" / "e2e_smollm2_dpo_lora.yaml"
BATCH_SIZE, LEARNING_RATE, BETA = 8, 5e-4, 0.1


def overrides(options: dict[str, Any]) -> list[str]:
    """The recipe on local files, for so many rows."""
    pairs = Path(options["pairs"])
    return [
        f"data.source={{train: {pairs / 'train.jsonl'}, test: {pairs / 'test.jsonl'}}}",
        "data.validation_fraction=0",
        f"data.max_train_examples={options['rows']}",
        "data.max_test_examples=8",
        "evaluation.metric=null",
        "evaluation.test=false",
        "training.epochs=1",
        f"training.batch_size={BATCH_SIZE}",
        f"training.learning_rate={LEARNING_RATE}",
        f"task.beta={BETA}",
    ]


def load(options: dict[str, Any]) -> tuple[Any, Any]:
    """Peftlab's loader, and the recipe."""
    from peftlab.preparation.check import check_recipe
    from peftlab.preparation.loading import Loader
    from peftlab.recipe.schema import load_recipe

    recipe, document = load_recipe(RECIPE, overrides(options))
    checked = check_recipe(recipe, document, offline=False)
    return Loader(checked, dtype=torch.float32, offline=False), checked


def check_tokens(ours: list[dict[str, Any]], theirs: Any) -> None:
    """Both have the same prompt and the same two responses of every pair, token by token."""
    for own, other in zip(ours, theirs, strict=True):
        first, prompt, ids = own["lengths"][0], own["prompt_length"], own["input_ids"]
        found = (other["prompt_ids"], other["chosen_ids"], other["rejected_ids"])
        if found != (ids[:prompt], ids[prompt:first], ids[first + prompt :]):
            raise SystemExit("peftlab and trl do not have the same tokens")


def run_trl(options: dict[str, Any], *, is_plain: bool) -> dict[str, Any]:
    """``DPOTrainer``, with its defaults or with as much work in a step as peftlab has."""
    import peft
    from datasets import Dataset
    from transformers import AutoModelForCausalLM
    from trl import DPOConfig, DPOTrainer

    loader, checked = load(options)
    split, template = checked.data.splits["train"], checked.recipe.task.template
    rows = [json.loads(line) for line in (Path(options["pairs"]) / "train.jsonl").read_text().splitlines()]
    taken = [rows[index] for index in split.index]
    table = Dataset.from_list(
        [
            {**{side: row[side] for side in ("chosen", "rejected")}, "prompt": template.format(prompt=row["prompt"])}
            for row in taken
        ]
    )
    torch.manual_seed(0)
    own = {"precompute_ref_log_probs": True, "gradient_checkpointing": False} if is_plain else {}
    trainer, times = build_trainer(
        lambda batch: int(batch["attention_mask"].sum()),
        folder=options["folder"],
        batch_size=BATCH_SIZE,
        epochs=1,
        learning_rate=LEARNING_RATE,
        settings={"beta": BETA, "bf16": False, **own},
        kinds=(DPOTrainer, DPOConfig),
        model=AutoModelForCausalLM.from_pretrained(loader.source, dtype=torch.float32),
        processing_class=loader.tokenizer,
        train_dataset=table,
        peft_config=peft.LoraConfig(task_type="CAUSAL_LM", r=8, lora_alpha=16, target_modules="all-linear"),
    )
    check_tokens(list(loader.splits["train"].examples), trainer.train_dataset)
    trainer.train()
    longest = sorted(trainer.train_dataset, key=lambda row: -2 * len(row["prompt_ids"]) - len(row["chosen_ids"]))
    return {
        "tokens_per_second": times.tokens_per_second,
        "peak_bytes": peak_of_training(trainer, trainer.data_collator(longest[:BATCH_SIZE])),
        "steps_timed": times.steps,
    }


def run_ours(options: dict[str, Any]) -> dict[str, Any]:
    """Peftlab with its defaults."""
    _, figures = run_peftlab(RECIPE, overrides(options), Path(tempfile.mkdtemp(dir=options["folder"])) / "run")
    return figures


CONTESTANTS = {
    "trl": lambda options: run_trl(options, is_plain=True),
    "trl_defaults": lambda options: run_trl(options, is_plain=False),
    "peftlab": run_ours,
}


def main() -> None:
    """Run all contestants and write the outcome."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=Path, help="What write_pairs.py has made.")
    parser.add_argument("--trl", type=Path, help="Where pip has put trl.")
    parser.add_argument("--rows", type=int, default=128, help="Pairs in the training split.")
    parser.add_argument("--repeats", type=int, default=3, help="Runs of each, by turns.")
    parser.add_argument("--output", type=Path, default=HERE / "results" / "e2e_dpo.json")
    parser.add_argument("--contestant", choices=CONTESTANTS, help=argparse.SUPPRESS)
    parser.add_argument("--options", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.contestant:
        print_outcome(CONTESTANTS[chosen.contestant](json.loads(chosen.options)))
        return
    if chosen.pairs is None or chosen.trl is None:
        parser.error("--pairs and --trl are required")
    os.environ["PYTHONPATH"] = os.pathsep.join([os.environ.get("PYTHONPATH", ""), str(chosen.trl.resolve())])
    with tempfile.TemporaryDirectory() as folder:
        words = json.dumps({"pairs": str(chosen.pairs.resolve()), "rows": chosen.rows, "folder": folder})
        runs: dict[str, list[dict[str, Any]]] = {name: [] for name in CONTESTANTS}
        for name in ("trl", "peftlab", "trl_defaults") * chosen.repeats:
            runs[name].append(run_alone(name, Path(__file__).name, "--contestant", name, "--options", words))
    outcomes = {name: median_run(own) for name, own in runs.items()}
    ours = outcomes["peftlab"]
    figures = ("tokens_per_second", "peak_bytes")
    result = {
        "setting": {"rows": chosen.rows, "batch_size": BATCH_SIZE, "learning_rate": LEARNING_RATE, "beta": BETA},
        "contestants": outcomes,
        "peftlab_over_trainer": {key: ours[key] / outcomes["trl"][key] for key in figures},
        "peftlab_over_trl_defaults": {key: ours[key] / outcomes["trl_defaults"][key] for key in figures},
    }
    write_result(result, chosen.output)


if __name__ == "__main__":
    main()
